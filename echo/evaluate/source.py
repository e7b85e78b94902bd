"""A data set that is measured: what is read, how, and how provenance.json keeps it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from echo.data.sources import Columns, ReadOptions, read_source
from echo.data.utterance import Utterance, describe


@dataclass(frozen=True)
class DataSet:
    """A source and how it is read."""

    name: str
    options: ReadOptions

    def read(self) -> Sequence[Utterance]:
        """Returns its utterances.

        Raises:
            EchoError: there is no such data set, or it cannot be used.
        """
        return read_source(self.name, self.options)

    def described(self, utterances: Sequence[Utterance]) -> dict[str, Any]:
        """Returns what `provenance.json` says of it, from which `from_provenance` makes it."""
        return {
            "source": {
                "data": self.name,
                "columns": asdict(self.options.columns),
                "allow_outside": self.options.allow_outside,
            },
            "data": {"evaluation": describe(utterances)},
        }

    @classmethod
    def from_provenance(cls, source: Mapping[str, Any]) -> "DataSet":
        """Returns a data set without the rows that cannot be used."""
        columns = Columns(**source.get("columns", {}))
        options = ReadOptions(columns, "skip", source.get("allow_outside", False))
        return cls(source["data"], options)
