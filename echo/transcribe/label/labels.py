"""What a model hears in rows, and how much it is to be trusted."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from echo.checkpoints.load import LoadedModel
from echo.data.audio import Audio, AudioSlice, clock
from echo.data.sources.row import END, PLACES, STARTS, Row
from echo.data.utterance import Utterance
from echo.evaluate.alignment import align
from echo.evaluate.normaliser import normaliser
from echo.model.geometry import FRAMES_PER_SECOND, Limits
from echo.model.language import written_language
from echo.support.errors import DataError
from echo.transcribe.transcribe import TranscribeSettings, transcribe_files
from echo.transcribe.transcript import Segment, Transcript

COLUMNS = ("label", "confidence", "agreement", "no_speech", "compression")
MARGIN = 0.2  # seconds around a segment's voice, which may begin and end faintly


@dataclass(frozen=True)
class Entry:
    """A row of a manifest in the making."""

    row: Row
    utterance: Utterance
    record: dict[str, Any]


@dataclass(frozen=True)
class Labelled:
    """A row, or a part of one, with what a model hears in it."""

    record: dict[str, Any]
    audio: Audio


class Labeller:
    """A model that labels rows, and a second one that says whether it hears the same."""

    def __init__(
        self, loaded: LoadedModel, second: LoadedModel | None, settings: TranscribeSettings
    ) -> None:
        self.loaded = loaded
        self.second = second
        self.settings = settings
        self.longest = Limits.of(loaded.model.config).max_frames / FRAMES_PER_SECOND

    def label(
        self, entries: Sequence[Entry], progress: bool = False
    ) -> Iterator[dict[str, Any] | DataError]:
        """Yields the rows of a manifest in order, or why there is none. A recording without a text
        that is longer than the model's input becomes a row for each segment."""
        recordings = [entry.utterance.audio for entry in entries]
        heard = dict(transcribe_files(self.loaded, recordings, self.settings, progress))
        found: list[Labelled | DataError] = []
        for i, entry in enumerate(entries):
            transcript = heard[i]
            if isinstance(transcript, DataError):
                found.append(DataError(f"{entry.row.where}: {transcript}"))
            elif (
                entry.row.has_text or transcript.duration <= self.longest or not transcript.segments
            ):
                record = with_label(entry, label_of(transcript.segments))
                found.append(Labelled(record, entry.utterance.audio))
            else:
                found += cut(entry, transcript)
        agreements = self.agreements([each for each in found if isinstance(each, Labelled)])
        for each in found:
            yield each if isinstance(each, DataError) else each.record | next(agreements)

    def agreements(self, labelled: Sequence[Labelled]) -> Iterator[dict[str, float]]:
        """Yields for each row how far both models agree; nothing without a second."""
        if self.second is None:
            yield from ({} for _ in labelled)
            return
        recordings = [each.audio for each in labelled]
        heard = dict(transcribe_files(self.second, recordings, self.settings))
        labels = [each.record["label"] for each in labelled]
        language = written_language(self.loaded.model, self.settings.language, self.settings.task)
        normalise = normaliser(language, self.loaded.tokenizer, labels)
        for i, label in enumerate(labels):
            other = heard[i]
            said = "" if isinstance(other, DataError) else other.text
            ((alignment),) = align([normalise(label)], [normalise(said)])
            wer = alignment.errors / max(1, len(alignment.reference))
            yield {"agreement": round(max(0.0, 1 - wer), 4)}


def label_of(segments: Sequence[Segment]) -> dict[str, Any]:
    """Returns the columns that segments fill. Where nothing is heard, the label is empty, its
    confidence 0 and `no_speech` 1."""
    decodings = [segment.decoding for segment in segments if segment.decoding]
    unsaid = [d.no_speech_prob for d in decodings if d.no_speech_prob is not None]
    silent = 0.0 if segments else 1.0
    return {
        "label": " ".join(segment.text for segment in segments),
        "confidence": round(confidence(segments), 4),
        "no_speech": round(max(unsaid), 4) if unsaid else silent or None,
        "compression": round(max(d.compression_ratio for d in decodings), 3) if decodings else None,
    }


def confidence(segments: Sequence[Segment]) -> float:
    """Returns the geometric mean of the segments' confidences, by the lengths of their texts."""
    lengths = [len(segment.text) for segment in segments]
    logs = [
        n * math.log(max(segment.confidence or 0.0, 1e-9))
        for n, segment in zip(lengths, segments, strict=True)
    ]
    return math.exp(sum(logs) / sum(lengths)) if sum(lengths) else 0.0


def with_label(entry: Entry, label: dict[str, Any]) -> dict[str, Any]:
    """Returns a row with its label, which is its text too if it has none."""
    columns = entry.row.columns
    text = columns.among(entry.row.record).text or columns.text or "text"
    said = entry.record[text] if entry.row.has_text else label["label"]
    return {**entry.record, text: said, **label}


def cut(entry: Entry, transcript: Transcript) -> Iterator[Labelled]:
    """Yields a row for each segment of a long recording."""
    part = entry.utterance.audio.as_slice()
    whole, origin = (part.audio, part.start) if part else (entry.utterance.audio, 0.0)
    places = {*STARTS, END, *(name for pair in PLACES for name in pair)}
    base = {key: value for key, value in entry.record.items() if key not in places}
    base.setdefault("recording", entry.utterance.id)
    segments = transcript.segments
    for i, segment in enumerate(segments):
        before = segments[i - 1].end if i else 0.0
        after = segments[i + 1].start if i + 1 < len(segments) else transcript.duration
        start = max(segment.start - MARGIN, min(before, segment.start))
        end = min(segment.end + MARGIN, max(after, segment.end))
        start, end = round(origin + start, 3), round(origin + end, 3)
        place = {
            "offset": start,
            "duration": round(end - start, 3),
            "id": f"{entry.utterance.id}@{clock(start)}-{clock(end)}",
        }
        one = replace(entry, record={**base, **place})
        yield Labelled(with_label(one, label_of([segment])), AudioSlice(whole, start, end))
