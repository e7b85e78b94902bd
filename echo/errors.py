"""The errors that are a user's to mend: one sentence that names the file, line or key."""

import signal
from pathlib import Path


class EchoError(Exception):
    """Bad input. The command line prints the message alone and exits with code 2."""


class ConfigError(EchoError):
    """A config or override has a wrong key, type or value."""


class DataError(EchoError):
    """A recording, transcript or data set cannot be used as it is."""


class StoppedError(Exception):
    """A signal stopped a run after it had written a checkpoint."""

    def __init__(self, run: Path, step: int, number: signal.Signals) -> None:
        super().__init__(
            f"{run}: stopped by {number.name} after step {step}; go on with 'echo-asr resume {run}'"
        )
        self.number = number


class StoppedElsewhere(EchoError):  # noqa: N818, it is the news of one
    """Another process of the run met an error, which the main one says."""


def reason(error: BaseException) -> str:
    """What another library's error says, without the advice that follows in further lines."""
    first, *_ = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(first.split()).rstrip(".:")
