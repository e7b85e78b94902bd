"""Long recordings, of which several rows are parts: what of each is kept, rejected, unlabelled."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from echo.data.audio import AudioFile
from echo.data.prepare.rows import file_path
from echo.data.utterance import Utterance
from echo.report.sound import link
from echo.support.errors import DataError

SHOWN = 100  # recordings on a page
STEPS = 1000  # of a timeline: gaps shorter than one are not drawn

Span = tuple[float, float]  # seconds


@dataclass
class Spans:
    """The parts of a recording that rows mean."""

    kept: list[Span] = field(default_factory=list)
    rejected: list[Span] = field(default_factory=list)


@dataclass(frozen=True)
class Timeline:
    """What is kept of a recording, rejected, and in no row."""

    path: Path
    seconds: float
    spans: Spans

    @property
    def kept(self) -> float:
        return length(joined(self.spans.kept))

    @property
    def rejected(self) -> float:
        """Seconds of which no row is kept."""
        return length(joined([*self.spans.kept, *self.spans.rejected])) - self.kept

    @property
    def unlabelled(self) -> float:
        return max(0.0, self.seconds - self.kept - self.rejected)

    def to_dict(self, page: Path) -> dict[str, Any]:
        """What the script `timelines.js` shows."""
        gap = self.seconds / STEPS
        states = {"kept": self.spans.kept, "rejected": self.spans.rejected}
        drawn = {
            state: [(round(start, 2), round(end, 2)) for start, end in joined(spans, gap)]
            for state, spans in states.items()
        }
        times = {state: round(getattr(self, state), 2) for state in (*states, "unlabelled")}
        return {
            "id": self.path.name,
            "link": link(AudioFile(self.path), page),
            "seconds": round(self.seconds, 2),
            "spans": drawn,
            "times": times,
        }


@dataclass
class Recordings:
    """The files that rows are parts of."""

    found: defaultdict[Path, Spans] = field(default_factory=lambda: defaultdict(Spans))

    def add(self, utterance: Utterance, is_rejected: bool) -> None:
        part, path = utterance.audio.as_slice(), long_recording(utterance)
        if part and path:
            spans = self.found[path].rejected if is_rejected else self.found[path].kept
            spans.append((part.start, part.start + utterance.duration))

    def timelines(self) -> list[Timeline]:
        """Returns those with several rows; first those with most that is rejected or unlabelled."""
        several = [
            Timeline(path, whole(path, [*spans.kept, *spans.rejected]), spans)
            for path, spans in self.found.items()
            if len(spans.kept) + len(spans.rejected) > 1
        ]
        return sorted(several, key=lambda each: -each.rejected - each.unlabelled)


def long_recording(utterance: Utterance) -> Path | None:
    """Returns the file that an utterance is a part of; None if it is a recording of its own."""
    return file_path(utterance.audio) if utterance.audio.as_slice() else None


def whole(path: Path, spans: Iterable[Span]) -> float:
    """Returns how long a recording is, at least up to the end of its last part."""
    last = max(end for _, end in spans)
    try:
        return max(last, AudioFile(path).seconds())
    except DataError:  # which its rows say
        return last


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
