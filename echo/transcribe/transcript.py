"""What is said in a recording, and when."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    start: float  # seconds from the recording's beginning, as are all times here
    end: float
    text: str


@dataclass(frozen=True)
class Segment:
    """About a sentence; its text is one line."""

    start: float
    end: float
    text: str
    words: tuple[Word, ...] | None = None  # None where no times were asked for


@dataclass(frozen=True)
class Transcript:
    duration: float  # seconds
    segments: tuple[Segment, ...]  # in order; none where nothing is said
    language: str | None = None  # its code, where a multilingual model was told it or detected it

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.segments)
