"""Recordings that a user names, as files or as folders of them."""

from collections.abc import Sequence
from pathlib import Path

import soundfile

from echo.data.audio import refusal
from echo.support.errors import DataError


def find_recordings(paths: Sequence[Path]) -> list[Path]:
    """Returns the files themselves, and what folders hold that is named like audio, in order of
    names; each of them once. Raises DataError where a file cannot be found, or a folder holds
    none."""
    found: dict[Path, None] = {}
    for path in paths:
        try:
            path.stat()
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: {refusal(path, error)}") from None
        files = sorted(filter(is_audio, path.rglob("*"))) if path.is_dir() else [path]
        if not files:
            raise DataError(f"{path}: holds no recordings")
        found.update(dict.fromkeys(files))
    return list(found)


def is_audio(path: Path) -> bool:
    """Whether a file is named like audio that can be read, and is not hidden."""
    suffix = path.suffix.lstrip(".").upper()
    known = suffix in (*soundfile.available_formats(), "AIF", "OGA", "OPUS") and suffix != "RAW"
    return known and not path.name.startswith(".") and path.is_file()
