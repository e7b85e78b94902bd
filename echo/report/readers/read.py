"""Finds out what kind of result a folder holds, and reads it."""

from pathlib import Path

from echo.report.readers.comparison import read_comparison
from echo.report.readers.evaluation import read_evaluation
from echo.report.readers.pilot import read_pilot
from echo.report.readers.recordings import Recordings
from echo.report.readers.run import read_run
from echo.report.result import Result
from echo.support.errors import DataError

READERS = {  # by the file that tells the kind
    "pilot.json": read_pilot,
    "comparison.json": read_comparison,
    "evaluation.json": read_evaluation,
    "config.yaml": read_run,
}


def read_result(folder: Path) -> tuple[Result, Recordings]:
    """Reads what a command wrote into a folder, and how its recordings are found.

    Raises:
        EchoError: the folder holds no result, or a file of it is damaged.
    """
    for name, read in READERS.items():
        if (folder / name).exists():
            try:
                return read(folder)
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
                raise DataError(f"{folder / name}: is not what Echo writes ({error!r})") from error
    raise DataError(f"{folder}: holds no result; it has none of {', '.join(READERS)}")
