"""lhotse's manifests: recordings, supervisions, and cuts that hold both."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from echo.data.prepare.formats.format import Format, Placed, RecordingIds
from echo.data.sources.lhotse import COMPRESSED, CUTS, RECORDINGS, SUPERVISIONS
from echo.support.files import writing

NAMED = ("speaker", "language", "gender")  # what supervisions have of their own


class Lhotse(Format):
    absolute = True

    def __init__(self) -> None:
        super().__init__()
        self.ids = RecordingIds()
        self.recordings: dict[str, dict[str, Any]] = {}

    def add(self, row: Placed) -> None:
        recording, utterance = row.recording, row.utterance
        id = self.ids.of(row)
        channels = list(range(recording.channels))
        self.recordings[id] = {
            "id": id,
            "sources": [{"type": "file", "channels": channels, "source": recording.path}],
            "sampling_rate": recording.rate,
            "num_samples": recording.samples,
            "duration": recording.seconds,
            "channel_ids": channels,
        }
        told: dict[str, Any] = {
            "id": utterance.id,
            "recording_id": id,
            "start": row.start or 0.0,
            "duration": row.duration,
            "channel": channels if row.channel is None and len(channels) > 1 else row.channel or 0,
            "text": utterance.text,
        }
        custom: dict[str, Any] = self.further(utterance, {})
        custom.pop("recording", None)  # it is the recording's id
        if utterance.speaker is not None:
            custom["speaker"] = utterance.speaker
        told |= {name: str(custom.pop(name)) for name in NAMED if name in custom}
        if custom:
            told["custom"] = custom
        self.rows.append(told)

    def write(self, folder: Path) -> None:
        write_lines(folder / f"{RECORDINGS}{COMPRESSED}", self.recordings.values())
        write_lines(folder / f"{SUPERVISIONS}{COMPRESSED}", self.rows)
        cuts = (cut(told, self.recordings[told["recording_id"]]) for told in self.rows)
        write_lines(folder / f"{CUTS}{COMPRESSED}", cuts)


def cut(supervision: dict[str, Any], recording: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": supervision["id"],
        "start": supervision["start"],
        "duration": supervision["duration"],
        "channel": supervision["channel"],
        "supervisions": [{**supervision, "start": 0.0}],
        "recording": recording,
        "type": "MonoCut" if isinstance(supervision["channel"], int) else "MultiCut",
    }


def write_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    # Without a time in it, the same data are the same file.
    with writing(path), gzip.GzipFile(path, "wb", mtime=0) as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")


FORMAT = Lhotse
