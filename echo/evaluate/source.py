"""Reads a data set again, in the way that a command has read it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from echo.data.sources import Columns, read_source
from echo.data.utterance import Utterance


def source_of(data: str, columns: Columns, allow_outside: bool) -> dict[str, Any]:
    """What `read_again` needs, as `provenance.json` keeps it."""
    return {"data": data, "columns": asdict(columns), "allow_outside": allow_outside}


def read_again(source: Mapping[str, Any]) -> Sequence[Utterance]:
    """The utterances, without those that cannot be used.

    Raises:
        EchoError: there is no such data set any more.
    """
    columns = Columns(**source.get("columns", {}))
    return read_source(source["data"], columns, "skip", source.get("allow_outside", False))
