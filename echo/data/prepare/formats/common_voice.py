"""Common Voice's layout: a table of clips, each a file of its own in `clips/`."""

import csv
from pathlib import Path, PurePosixPath

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
        lines = {  # without quoting, which the table does not have
            key: self.one_line(value, key) if isinstance(value, str) else value
            for key, value in record.items()
        }
        self.rows.append(dict.fromkeys(COLUMNS) | lines)

    def write(self, folder: Path) -> None:
        path = folder / "validated.tsv"
        unquoted = {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None}
        write_table(path, self.rows, **unquoted)
        if is_quoted(path, "\t"):
            raise DataError(
                "quote marks in its texts look like those around cells, which Common Voice's "
                "tables do not have: choose another format"
            )


FORMAT = CommonVoice
