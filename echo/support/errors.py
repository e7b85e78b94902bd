"""The errors that the user can fix: one sentence that names the file, line or key."""

import signal
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class EchoError(Exception):
    """An error that the user can fix. The command line prints only its message and exits with 2."""


class ConfigError(EchoError):
    """A config or override has a wrong key, type or value."""


class DataError(EchoError):
    """A recording, transcript or data set cannot be used."""


class StoppedError(Exception):
    """A signal stopped a run, or the runs of a pilot, after a checkpoint was written."""

    def __init__(self, message: str, number: signal.Signals) -> None:
        super().__init__(message)
        self.number = number


class StoppedElsewhere(EchoError):  # noqa: N818, because the error was another's
    """Another process of the run failed; the main process prints its error."""


def tried(where: str, work: Callable[..., T], *arguments: Any) -> T | DataError:
    """Returns what a function returns, or the DataError that it raises with a place before it."""
    try:
        return work(*arguments)
    except DataError as error:
        return DataError(f"{where}: {error}")


def reason(error: BaseException) -> str:
    """Returns what another library's error says, in one line: the system's own words, or else the
    first line of the message (with the next if it ends in a colon), without the advice after it."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said = ""
    for line in str(error).strip().splitlines():
        said = " ".join([*said.split(), *line.split()])
        if not said.endswith(":"):
            break
    return said.rstrip(".:") or type(error).__name__
