"""Word and character error rates at corpus level."""

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import jiwer

# A metric module with the same counts, for `evaluate.load`.
METRIC_PATH = str(Path(__file__).with_name("asr_errors"))


@dataclass(frozen=True)
class ErrorCounts:
    """Error counts, and the number of reference units (words or characters)."""

    substitutions: int
    deletions: int
    insertions: int
    reference: int

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
    return count(references, hypotheses, jiwer.process_words, lambda text: len(text.split()))


def character_errors(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorCounts:
    """Counts the minimum character edits, including spaces, over the whole set."""
    return count(references, hypotheses, jiwer.process_characters, lambda text: len(text.strip()))


def count(
    references: Sequence[str], hypotheses: Sequence[str], process: Any, length: Any
) -> ErrorCounts:
    # jiwer does not accept an empty reference. There, everything in the hypothesis is an insertion.
    pairs = [(r, h) for r, h in zip(references, hypotheses, strict=True) if r.strip()]
    invented = sum(length(h) for r, h in zip(references, hypotheses, strict=True) if not r.strip())
    if not pairs:
        return ErrorCounts(0, 0, invented, 0)
    measured = process([r for r, _ in pairs], [h for _, h in pairs])
    return ErrorCounts(
        measured.substitutions,
        measured.deletions,
        measured.insertions + invented,
        measured.hits + measured.substitutions + measured.deletions,
    )
