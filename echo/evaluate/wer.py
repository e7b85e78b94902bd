"""Word and character error rates at corpus level."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import jiwer

# A metric module with the same counts, for `evaluate.load`.
METRIC_PATH = str(Path(__file__).with_name("asr_errors"))


@dataclass(frozen=True)
class ErrorCounts:
    """Error counts, and the number of reference units (words or characters)."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    reference: int = 0

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per reference unit. For an empty reference: 0 without errors, otherwise 1."""
        return self.errors / self.reference if self.reference else float(self.errors > 0)

    def to_dict(self) -> dict[str, Any]:
        return {"rate": self.rate, **asdict(self)}


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorCounts:
    """Counts the minimum word edits over the whole set. With an empty reference, every word is an
    insertion."""
    return counted(jiwer.process_words([*references], [*hypotheses]))


def character_errors(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorCounts:
    """Counts the minimum character edits, including spaces, over the whole set."""
    return counted(jiwer.process_characters([*references], [*hypotheses]))


def counted(found: jiwer.WordOutput | jiwer.CharacterOutput) -> ErrorCounts:
    reference = found.hits + found.substitutions + found.deletions
    return ErrorCounts(found.substitutions, found.deletions, found.insertions, reference)


def total(counts: Iterable[ErrorCounts]) -> ErrorCounts:
    return sum(counts, start=ErrorCounts())
