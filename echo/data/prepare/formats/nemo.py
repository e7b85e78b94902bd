"""NeMo's manifests: JSON lines."""

import json
from pathlib import Path
from typing import Any

from echo.data.audio import channel_name
from echo.data.prepare.formats.format import Format, Placed
from echo.support.files import replace_text


class NeMo(Format):
    def add(self, row: Placed) -> None:
        utterance = row.utterance
        record: dict[str, Any] = {
            "audio_filepath": row.recording.path,
            "duration": row.duration,
            "text": utterance.text,
            "id": utterance.id,
        }
        if row.start is not None:
            record["offset"] = row.start
        if row.channel is not None:
            record["channel"] = channel_name(row.channel)
            self.notes.setdefault("channel", "NeMo itself does not read this column")
        if utterance.speaker is not None:
            record["speaker"] = utterance.speaker
        if utterance.language is not None and "lang" not in utterance.extra:
            record["lang"] = utterance.language  # what NeMo's tokenizers of several languages read
        further = self.further(utterance, {**record, "offset": 0.0})
        self.rows.append(record | further)

    def write(self, folder: Path) -> None:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows)
        replace_text(folder / "manifest.jsonl", "".join(lines))


FORMAT = NeMo
