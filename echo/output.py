"""Folders that results are written to."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from echo.errors import EchoError


def result_folder(folder: Path, result: str) -> None:
    """Makes a folder for results, before an hour is spent on them.

    Args:
        result: the file that tells that there are results already, which are never overwritten.

    Raises:
        EchoError: it has results, or cannot be written to.
    """
    if (folder / result).exists():
        raise EchoError(f"{folder}: holds results already ({result}); choose another folder")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raises EchoError where what is done within cannot be written."""
    try:
        yield
    except OSError as error:
        raise EchoError(f"{folder}: cannot be written ({error.strerror})") from None
