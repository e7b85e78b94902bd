"""Recordings that a user names, as files or as folders of them."""

from collections.abc import Sequence
from pathlib import Path

from echo.data.audio import named_like_audio, refusal
from echo.support.errors import DataError
from echo.support.files import files_below


def find_recordings(paths: Sequence[Path]) -> list[Path]:
    """Returns the files themselves, and what folders hold that is named like audio, in order of
    names; each of them once. What cannot be read is among them, so that it is named. Raises
    DataError where a file cannot be found, or a folder not be read, or holds none."""
    found: dict[Path, None] = {}
    for path in paths:
        try:
            path.stat()
            files = sorted(filter(named_like_audio, files_below(path))) if path.is_dir() else [path]
        except (OSError, ValueError) as error:
            place = Path(getattr(error, "filename", None) or path)
            raise DataError(f"{place}: {refusal(place, error)}") from None
        if not files:
            raise DataError(f"{path}: holds no recordings")
        found.update(dict.fromkeys(files))
    return list(found)
