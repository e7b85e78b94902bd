"""Long recordings, of which several rows are parts: what of each is kept, rejected, unlabelled."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from echo.data.audio import Audio, AudioSlice
from echo.data.prepare.rows import file_path
from echo.data.utterance import Utterance
from echo.report.sound import link
from echo.support.errors import DataError

SHOWN = 100  # recordings on a page
STEPS = 1000  # of a timeline: gaps shorter than one are not drawn

Span = tuple[float, float]  # seconds


@dataclass
class Timeline:
    """What is kept of a recording, rejected, and in no row."""

    audio: Audio  # a file, or one channel of one
    spans: dict[str, list[Span]] = field(default_factory=lambda: {"kept": [], "rejected": []})

    @cached_property
    def seconds(self) -> float:
        """How long the recording is, at least up to the end of its last part."""
        last = max(end for spans in self.spans.values() for _, end in spans)
        try:
            return max(last, self.audio.seconds())
        except DataError:  # which its rows say
            return last

    @property
    def kept(self) -> float:
        return length(joined(self.spans["kept"]))

    @property
    def rejected(self) -> float:
        """Seconds of which no row is kept."""
        return length(joined(chain(*self.spans.values()))) - self.kept

    @property
    def unlabelled(self) -> float:
        return max(0.0, self.seconds - self.kept - self.rejected)

    def to_dict(self, page: Path) -> dict[str, Any]:
        """What the script `timelines.js` shows."""
        gap = self.seconds / STEPS
        drawn = {
            state: [(round(start, 2), round(end, 2)) for start, end in joined(spans, gap)]
            for state, spans in self.spans.items()
        }
        times = {state: round(getattr(self, state), 2) for state in (*drawn, "unlabelled")}
        return {
            "id": Path(str(self.audio)).name,
            "link": link(self.audio, page),
            "seconds": round(self.seconds, 2),
            "spans": drawn,
            "times": times,
        }


@dataclass
class Recordings:
    """The files that rows are parts of, and their channels."""

    found: dict[Audio, Timeline] = field(default_factory=dict)

    def add(self, utterance: Utterance, is_rejected: bool) -> None:
        if part := part_of_file(utterance.audio):
            spans = self.found.setdefault(part.audio, Timeline(part.audio)).spans
            span = part.start, part.start + utterance.duration
            spans["rejected" if is_rejected else "kept"].append(span)

    def timelines(self) -> list[Timeline]:
        """Returns those with several rows; first those with most that is rejected or unlabelled."""
        several = [each for each in self.found.values() if sum(map(len, each.spans.values())) > 1]
        return sorted(several, key=lambda each: -each.rejected - each.unlabelled)


def part_of_file(audio: Audio) -> AudioSlice | None:
    """Returns audio if it is a part of a file or of one channel of a file."""
    return audio.as_slice() if file_path(audio) else None


def joined(spans: Iterable[Span], gap: float = 0.0) -> list[Span]:
    """Returns spans in order, as one where they overlap or are no further apart than a gap."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1] + gap:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found


def length(spans: Iterable[Span]) -> float:
    return sum(end - start for start, end in spans)
