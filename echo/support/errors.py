"""The errors that the user can fix: one sentence that names the file, line or key."""

import signal


class EchoError(Exception):
    """Bad input. The command line prints the message alone and exits with code 2."""


class ConfigError(EchoError):
    """A config or override has a wrong key, type or value."""


class DataError(EchoError):
    """A recording, transcript or data set cannot be used as it is."""


class StoppedError(Exception):
    """A signal stopped a run, or the runs of a pilot, after a checkpoint was written."""

    def __init__(self, message: str, number: signal.Signals) -> None:
        super().__init__(message)
        self.number = number


class StoppedElsewhere(EchoError):  # noqa: N818, because the error was another's
    """Another process of the run failed; the main process prints its error."""


def reason(error: BaseException) -> str:
    """Returns what another library's error says, in one line: the system's own words, or else the
    first line of the message, without the advice that follows. A line that ends in a colon goes
    on."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said = ""
    for line in str(error).strip().splitlines():
        said = " ".join([*said.split(), *line.split()])
        if not said.endswith(":"):
            break
    return said.rstrip(".:") or type(error).__name__
