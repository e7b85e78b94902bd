"""What is said in a recording, and when."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    start: float  # seconds from the recording's beginning, as are all times here
    end: float
    text: str
    confidence: float | None = None  # as a segment's


@dataclass(frozen=True)
class Decoding:
    """How a window of a recording was decoded, as OpenAI's Whisper names it."""

    temperature: float
    avg_logprob: float  # the mean over its tokens, the end token among them
    compression_ratio: float  # of its text: much above 2 if the text repeats itself
    no_speech_prob: float | None  # None if it was not measured


@dataclass(frozen=True)
class Segment:
    """About a sentence; its text is one line."""

    start: float
    end: float
    text: str
    words: tuple[Word, ...] | None = None  # None where no times were asked for
    # The probability that the model gives to the tokens, as their geometric mean.
    confidence: float | None = None
    # Of the window that the segment is in. None for a model that produces no timestamps.
    decoding: Decoding | None = None


@dataclass(frozen=True)
class Transcript:
    duration: float  # seconds
    segments: tuple[Segment, ...]  # in order; none where nothing is said
    language: str | None = None  # its code; None where the model does not know what it hears

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.segments)
