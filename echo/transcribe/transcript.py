"""What is said in a recording, and when."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    start: float  # seconds from the recording's beginning, as are all times here
    end: float
    text: str
    confidence: float | None = None  # as a segment's


@dataclass(frozen=True)
class Segment:
    """About a sentence; its text is one line."""

    start: float
    end: float
    text: str
    words: tuple[Word, ...] | None = None  # None where no times were asked for
    # The probability that the model gives to the tokens, as their geometric mean.
    confidence: float | None = None


@dataclass(frozen=True)
class Transcript:
    duration: float  # seconds
    segments: tuple[Segment, ...]  # in order; none where nothing is said
    language: str | None = None  # its code; None where the model does not know what it hears

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.segments)
