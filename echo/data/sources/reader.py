"""What every kind of source provides: see docs/add_a_source.md."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from echo.config import OnError
from echo.data.sources.row import USUAL, Columns, Rows


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


class Reader(ABC):
    """Reads one kind of source. A new kind names its files and gives `read`."""

    suffixes: tuple[str, ...] = ()  # of files of this kind: (".jsonl",)
    marks: tuple[str, ...] = ()  # the files by which a folder of this kind is known

    def takes(self, spec: str) -> bool:
        """Tells whether a source is of this kind, by its name and what is there, without
        reading."""
        path = Path(spec)
        if path.is_dir():
            return any((path / mark).is_file() for mark in self.marks)
        return path.suffix.lower() in self.suffixes and path.exists()

    def file(self, spec: str) -> Path:
        """Returns the file that a source is, or the first of the marks that its folder holds."""
        path = Path(spec)
        marks = (path / mark for mark in self.marks)
        return next(mark for mark in marks if mark.is_file()) if path.is_dir() else path

    @abstractmethod
    def read(self, spec: str, options: ReadOptions) -> Rows:
        """Yields every row in order, or the reason why it is none, naming its place.

        Args:
            spec: what the user wrote, which `takes` has taken.
            options: what the user says of it: `columns` goes to each `Row` of a source whose
                columns have names, `allow_outside` to `Recordings`.

        Raises:
            DataError: the source as a whole cannot be read.
        """

    def shards(self, spec: str, options: ReadOptions) -> Sequence[Rows] | None:
        """Returns the parts in which training streams a source, none of them read: each yields
        its rows, always the same, as often as it is iterated. None if it is held whole.

        Arguments and errors as for `read`.
        """
        return None


class ShardReader(Reader):
    """Reads a kind of source that training always streams, shard by shard."""

    @abstractmethod
    def shards(self, spec: str, options: ReadOptions) -> Sequence[Rows]: ...

    def read(self, spec: str, options: ReadOptions) -> Rows:
        return chain.from_iterable(self.shards(spec, options))
