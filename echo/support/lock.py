"""A folder that one process at a time works in."""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from echo.support.errors import EchoError
from echo.support.files import writing

try:
    import fcntl
except ImportError:  # not on Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of blocks with the same folder. The folder is made if it does not
    exist, and removed again if it stays empty.

    The system holds the lock, not the file: it ends with the process, however that ends. There is
    no lock between threads of one process.

    Raises:
        EchoError: another process is there, or the folder cannot be written to.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = open_locked(folder)
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / LOCK_FILE).unlink()
        file.close()
        with suppress(OSError):  # it holds something
            folder.rmdir()


def open_locked(folder: Path) -> IO[str]:
    """Opens and locks the folder's lock file, and writes the number of this process into it."""
    path = folder / LOCK_FILE
    while True:
        file = open_own(path)
        if not lock(file):
            file.seek(0)
            holder = file.read(20).strip() or "unknown"
            file.close()
            raise EchoError(
                f"{folder}: another process is using this folder (process {holder}); wait until "
                "it has ended, or choose another folder"
            )
        with suppress(FileNotFoundError):  # another process has just taken it away
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        file.close()
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def open_own(path: Path) -> IO[str]:
    """Opens or makes a lock file, through which no other file is written: a link is refused, and a
    file that holds something else than a process's number."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise EchoError(f"{path}: is a link, not Echo's lock; remove it") from None
        raise
    is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    content = os.read(descriptor, 20) if is_file else b"a pipe or device"
    if content and not re.fullmatch(rb"[0-9]{1,18}\n?", content):
        os.close(descriptor)
        raise EchoError(f"{path}: is not Echo's lock; move it away")
    os.lseek(descriptor, 0, os.SEEK_SET)  # back from what was read
    return os.fdopen(descriptor, "r+")


def lock(file: IO[str]) -> bool:
    """Tries to lock a file, and returns whether no other process holds the lock."""
    try:
        if fcntl is not None:  # not flock, whose locks forked workers would go on to hold
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # the file system has no locks
        pass
    return True
