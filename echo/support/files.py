"""Reading JSON, and writing files and folders so that a reader never finds half of one. What cannot
be written is an EchoError, and what cannot be read a DataError."""

import errno
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn
from uuid import uuid4

from safetensors import SafetensorError

from echo.support.errors import DataError, EchoError, reason

UNFINISHED = ".writing"  # suffix of what is being written; it stays if the process is killed


# Files that Echo writes into the folders of results, beside folders that users name.
RESERVED = (
    *("pilot.json", "table.md", "comparison.json", "comparison.md", "evaluation.json"),
    *("inspection.json", "provenance.json", "report.html", "utterances.jsonl"),
)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a new path beside `path` to write to, which replaces `path` at the end, or is deleted
    where writing fails. Any number of processes may write the same file; the last one wins."""
    with unfinished(path) as temporary:
        yield temporary
        temporary.replace(path)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yields a new folder beside `path` to write into, which takes its name at the end, or is
    deleted where writing fails. `path` must not exist by then, or be an empty folder."""
    with unfinished(path) as temporary:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(path)


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """Yields a hidden name beside `path` that no other process uses, and that is never too long.
    What bears it is deleted where the block fails."""
    temporary = path.with_name(f".{path.name[:40]}.{uuid4().hex[:12]}{UNFINISHED}")
    with writing(path):
        try:
            yield temporary
        except BaseException:
            # The first error is the one to report.
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def replace_text(path: Path, text: str) -> None:
    """Writes a text file completely or not at all."""
    with whole_file(path) as temporary:
        # UTF-8 cannot hold half a surrogate pair, which names of files and JSON may have. Its
        # escape is valid JSON too.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def flush(path: Path) -> None:
    """Waits until a file, or a folder's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def writable_folder(folder: Path) -> None:
    """Makes a folder, and checks before hours are spent on its content that it can be written
    to."""
    if folder.exists() and not folder.is_dir():
        raise EchoError(f"{folder}: is a file, but must be a folder; choose another name")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, prefix="."):
            pass


def new_folder(folder: Path) -> None:
    """Checks that a new folder can be written there, or into an empty one, before work is done."""
    if folder.name in ("", ".."):  # which another folder cannot take the place of
        raise EchoError(f"{folder}: is no name for a new folder; write to {folder / 'out'}")
    with writing(folder):
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise EchoError(f"{folder}: exists, and is not an empty folder; choose another")
        existing = next(
            path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()
        )
        with tempfile.TemporaryFile(dir=existing):
            pass


def result_folder(folder: Path, result: str) -> None:
    """Makes a folder for results; see `writable_folder`. One that holds the file `result` has
    results already, which are never overwritten."""
    if (folder / result).exists():
        raise EchoError(f"{folder}: holds results already ({result}); choose another folder")
    check_reserved(folder)
    writable_folder(folder)


def check_reserved(folder: Path) -> None:
    """Raises EchoError where a folder has the name of a file that is to be written."""
    if taken := next((folder / name for name in RESERVED if (folder / name).is_dir()), None):
        raise EchoError(f"{taken}: is a folder, but must be a file of results; move it away")


def is_reserved(name: str) -> bool:
    """Returns whether a folder of this name would be in the way of a result's file."""
    return name.casefold() in RESERVED


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turns errors of writing into an EchoError that names the target."""
    try:
        yield
    # Not RuntimeError, which is also what torch raises where memory runs out.
    except (OSError, SafetensorError) as error:
        raise EchoError(f"{target}: cannot be written ({reason(error)})") from error


def refuse_pipe(path: Path) -> None:
    """Raises OSError for a pipe or a device, of which reading may never end, unless the shell has
    opened it for this process, as `<(...)`."""
    if str(path).startswith(("/dev/fd/", "/dev/stdin", "/proc/")):
        return
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device", str(path))


def read_json(path: Path) -> Any:
    """Reads a JSON file."""
    try:
        refuse_pipe(path)
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error})") from None


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON file that holds an object."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds {type(content).__name__}, not an object")
    return content


def files_below(folder: Path) -> Iterator[Path]:
    """Yields the files below a folder, in order, and links that lead nowhere. Links to folders are
    followed, once each. A folder that cannot be read is an OSError."""

    def refuse(error: OSError) -> NoReturn:
        raise error

    visited: set[Path] = set()
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = Path(place).resolve()
        if real in visited:  # a link back up would be followed for ever
            folders.clear()
            continue
        visited.add(real)
        folders.sort()
        paths = (Path(place, name) for name in sorted(names))
        yield from (path for path in paths if path.is_file() or not path.exists())


def is_file_name(name: object) -> bool:
    """Returns whether this is a plain file name: no path, and no character that is special to a
    shell, a terminal or another file system."""
    return (
        isinstance(name, str)
        and name.isprintable()
        and 0 < len(name.encode(errors="replace")) <= 255
        and not name.startswith((".", "~"))
        and not any(character in name for character in '/\\:*?"<>|')
    )


def lies_in(path: Path, roots: tuple[Path, ...]) -> bool:
    """Returns whether a path lies below one of several resolved folders, once links are
    followed."""
    place = path.resolve() if path.is_symlink() else path
    return leads_into(folder_of(place), roots)


def folder_of(path: Path) -> str:
    """Returns the folder of a file with its separator, "" for the working directory: as text, which
    is quicker to make and to look up than another path."""
    folder, separator, _ = str(path).rpartition(os.sep)
    return folder + separator


@lru_cache(maxsize=4096)  # resolving takes half of the time of reading a manifest
def leads_into(folder: str, roots: tuple[Path, ...]) -> bool:
    """Returns whether a folder lies below one of several resolved ones, or is one."""
    real = Path(folder).resolve()
    return any(real.is_relative_to(root) for root in roots)
