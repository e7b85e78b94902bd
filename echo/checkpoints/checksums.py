"""Checksums of a folder's files, which reveal damage."""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path

from echo.support.files import flush, lies_in, refuse_pipe

CHECKSUMS_FILE = "checksums.json"


def seal(folder: Path) -> None:
    """Writes the SHA-256 of every file, and waits until all files are on the disk."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = {path.relative_to(folder).as_posix(): digest(path) for path in files}
    (folder / CHECKSUMS_FILE).write_text(json.dumps(sums, indent=1), encoding="utf-8")
    for path in (*files, folder / CHECKSUMS_FILE, folder):
        flush(path)


def damage(folder: Path, without: Collection[str] = ()) -> str | None:
    """Returns what is wrong with a sealed folder, but for the files `without`; None if nothing
    is."""
    try:
        refuse_pipe(folder / CHECKSUMS_FILE)
        sums = json.loads((folder / CHECKSUMS_FILE).read_text(encoding="utf-8"))
        for name, expected in sums.items():
            if name in without:
                continue
            if not lies_in(folder / name, (folder.resolve(),)):  # such as an endless device
                return f"{CHECKSUMS_FILE} names a file of another folder"
            if digest(folder / name) != expected:
                return f"{name} does not match its checksum"
    except OSError as error:
        return f"{Path(error.filename or folder).name} cannot be read ({error.strerror})"
    except (ValueError, AttributeError, TypeError, RuntimeError):  # RuntimeError: links in a circle
        return f"{CHECKSUMS_FILE} is garbled"
    return None


def digest(path: Path) -> str:
    refuse_pipe(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
