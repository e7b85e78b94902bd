"""A table of comma-separated values, with the columns of NeMo's manifests."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from echo.data.audio import channel_name
from echo.data.prepare.formats.format import Format, Placed, decimal
from echo.support.errors import DataError
from echo.support.files import writing


class Table(Format):
    def add(self, row: Placed) -> None:
        utterance = row.utterance
        check_text(utterance.text)
        record = {
            "id": utterance.id,
            "audio_filepath": row.recording.path,
            "offset": None if row.start is None else decimal(row.start),
            "duration": decimal(row.duration),
            "text": utterance.text,
            "speaker": utterance.speaker,
        }
        if row.channel is not None:
            record["channel"] = channel_name(row.channel)
        self.rows.append(record | self.further(utterance, record))

    def write(self, folder: Path) -> None:
        write_table(folder / "metadata.csv", self.rows)


def check_text(text: str) -> None:
    """Raises DataError for an empty text, as which a table also has a missing one."""
    if not text:
        raise DataError("has an empty text, which in a table cannot be told from a missing one")


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], **dialect: Any) -> None:
    """Writes rows with all columns that one of them has."""
    header = dict.fromkeys(key for row in rows for key in row)
    with writing(path), path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(header), lineterminator="\n", **dialect)
        writer.writeheader()
        writer.writerows(rows)


FORMAT = Table
