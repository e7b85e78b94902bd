"""What becomes of a recording and its text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from echo.data.prepare.filter.rules import Reason
from echo.transcribe.align.anchors import Match
from echo.transcribe.align.texts import Sentence

MARGIN = 0.5  # seconds of a pause that stay at the ends of a row


@dataclass(frozen=True)
class Stretch:
    """A part of a recording, in seconds, and what a model hears there, if it was asked."""

    start: float
    end: float
    heard: str | None = None


@dataclass(frozen=True)
class Part:
    """Words of a sentence, from one to before another; mostly all of them."""

    sentence: int
    first: int
    end: int


@dataclass(frozen=True)
class Aligned:
    """A part of a text where it is said."""

    part: Part
    text: str
    start: float  # seconds, where its voice begins and ends
    end: float
    before: float  # seconds, where it is cut from what is before it and after it
    after: float
    score: float  # the log probability of a token, as the mean
    match: Match | None = None  # with what was heard; None if nobody listened
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class Row:
    """What is kept together: sentences of one speaker that follow each other."""

    start: float  # seconds
    end: float
    text: str
    speaker: str | None
    score: float  # the least of the sentences'
    wer: float | None
    heard: str | None

    @classmethod
    def of(
        cls,
        parts: Sequence[Aligned],
        sentences: Sequence[Sentence],
        space: str,
        longest: float = math.inf,
    ) -> "Row":
        """Joins parts that follow each other; of the pauses at its ends as much as fits in
        `longest` seconds stays."""
        first, last = parts[0], parts[-1]
        margin = min(MARGIN, max(0.0, longest - (last.end - first.start)) / 2)
        matches = [part.match for part in parts if part.match is not None]
        tokens = sum(match.tokens for match in matches)
        return cls(
            max(first.before, first.start - margin),
            min(last.after, last.end + margin),
            space.join(part.text for part in parts),
            sentences[first.part.sentence].speaker,
            min(part.score for part in parts),
            sum(match.errors for match in matches) / max(1, tokens) if matches else None,
            space.join(word for match in matches for word in match.heard) if matches else None,
        )


@dataclass(frozen=True)
class Alignment:
    """What became of a recording and its text."""

    seconds: float
    sentences: Sequence[Sentence]
    kept: list[Aligned]
    rows: list[Row]  # what is kept, joined
    rejected: list[Aligned]
    missing: list[int]  # sentences that nobody says
    unlabelled: list[Stretch]  # speech that no kept sentence says
    space: str  # between words
