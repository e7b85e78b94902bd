"""Common Voice's layout: a table of clips, each a file of its own in `clips/`."""

import csv
from pathlib import Path, PurePosixPath
from typing import Any

from echo.data.prepare.formats.csv import check_text, write_table
from echo.data.prepare.formats.format import Format, Placed, decimal
from echo.data.sources.common_voice import CLIPS
from echo.data.sources.table import is_quoted
from echo.support.errors import DataError

# What readers of Common Voice expect; columns that a row lacks stay empty.
COLUMNS = (
    *("client_id", "path", "sentence", "up_votes", "down_votes"),
    *("age", "gender", "accents", "locale", "segment"),
)


class CommonVoice(Format):
    audio_folder = CLIPS
    files = "copied"
    cuts = True

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []

    def add(self, row: Placed) -> None:
        utterance = row.utterance
        check_text(utterance.text)
        own = {
            "client_id": utterance.speaker,
            "path": PurePosixPath(row.recording.path).name,
            "sentence": utterance.text,
            "id": utterance.id,
            "duration": decimal(row.duration),
        }
        further = self.further(utterance, own)
        record = {"locale": utterance.language, **own, **further}
        told = {
            key: self.one_line(value, key) if isinstance(value, str) else value
            for key, value in record.items()
        }
        self.rows.append(told)  # without quoting, which the table does not have

    def write(self, folder: Path) -> None:
        path = folder / "validated.tsv"
        unquoted = {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None}
        write_table(path, COLUMNS, self.rows, **unquoted)
        if is_quoted(path, "\t"):
            raise DataError(
                "quote marks in its texts look like those around cells, which Common Voice's "
                "tables do not have: choose another format"
            )


FORMAT = CommonVoice
