"""A table of comma-separated values, with the columns of NeMo's manifests."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from echo.data.audio import channel_name
from echo.data.prepare.formats.format import Format, Placed, decimal
from echo.support.errors import DataError
from echo.support.files import writing

COLUMNS = ("id", "audio_filepath", "offset", "duration", "text", "speaker")


class Table(Format):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []

    def add(self, row: Placed) -> None:
        utterance = row.utterance
        check_text(utterance.text)
        values = (
            utterance.id,
            row.recording.path,
            None if row.start is None else decimal(row.start),
            decimal(row.duration),
            utterance.text,
            utterance.speaker,
        )
        record: dict[str, Any] = dict(zip(COLUMNS, values, strict=True))
        if row.channel is not None:
            record["channel"] = channel_name(row.channel)
        self.rows.append(record | self.further(utterance, record))

    def write(self, folder: Path) -> None:
        write_table(folder / "metadata.csv", COLUMNS, self.rows)


def check_text(text: str) -> None:
    """Raises DataError for an empty text, as which a table also has a missing one."""
    if not text:
        raise DataError("has an empty text, which in a table cannot be told from a missing one")


def write_table(
    path: Path, columns: Iterable[str], rows: list[dict[str, Any]], **dialect: Any
) -> None:
    """Writes rows with these columns, and after them all others that a row has."""
    further: Mapping[str, None] = dict.fromkeys(key for row in rows for key in row)
    header = dict.fromkeys((*columns, *further))
    with writing(path), path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(header), lineterminator="\n", **dialect)
        writer.writeheader()
        writer.writerows(rows)


FORMAT = Table
