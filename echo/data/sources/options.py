"""How a source is read, which is the same for every kind."""

from dataclasses import dataclass

from echo.config import OnError
from echo.data.sources.columns import USUAL, Columns


@dataclass(frozen=True)
class ReadOptions:
    """What a user says of a source besides its name."""

    columns: Columns = USUAL  # where the columns do not have one of their usual names
    # "raise" stops at the first row that cannot be used; "skip" logs it and goes on.
    on_error: OnError = "raise"
    # Whether recordings may lie outside of the source's own folder: by an absolute path, by "..",
    # or through a link.
    allow_outside: bool = False
    # Whether a data set of the hub is read in passing, and not downloaded.
    streaming: bool = False


AS_USUAL = ReadOptions()
