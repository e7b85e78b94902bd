"""What every source of data yields, and how a corpus hands it to training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from echo.data.audio import Audio


@dataclass(frozen=True)
class Utterance:
    """One recording and what is said in it."""

    id: str  # unique within its source
    audio: Audio
    text: str
    duration: float  # seconds, by header or manifest: for batching, before anything is decoded
    speaker: str | None = None
    where: str = ""  # "train.jsonl:12", for messages
    extra: Mapping[str, Any] = field(default_factory=dict)  # the source's further columns
    language: str | None = None  # as its row names it: "de", "german" or "de-AT"
    task: str | None = None  # "transcribe" or "translate"
    set: str = ""  # the name of its data set, where several are measured


def about_equal(told: float, seconds: float) -> bool:
    """Tells whether a length that a row gives is, but for rounding, that of a recording."""
    return abs(told - seconds) <= 0.1 + 0.01 * seconds


# Utterances that WER is measured on, or several sets of them by name.
Evaluated = Sequence[Utterance] | Mapping[str, Sequence[Utterance]]


def evaluation_sets(evaluated: Evaluated) -> dict[str, Sequence[Utterance]]:
    """Returns all sets by name; a single one has the name ""."""
    return dict(evaluated) if isinstance(evaluated, Mapping) else {"": evaluated}


def all_evaluated(evaluated: Evaluated) -> list[Utterance]:
    """Returns the utterances of all sets, one set after another."""
    return [utterance for each in evaluation_sets(evaluated).values() for utterance in each]


class Corpus(Protocol):
    """What a run trains and is measured on."""

    def train_epoch(self, epoch: int) -> Sequence[Utterance]:
        """Returns the training utterances of one epoch: always the same for the same number."""
        ...

    def eval_utterances(self) -> Evaluated:
        """Returns the utterances that WER is measured on, or several sets of them by name."""
        ...


@dataclass(frozen=True)
class FixedCorpus:
    """A corpus whose epochs are all the same utterances."""

    train: Sequence[Utterance]
    eval: Evaluated

    def train_epoch(self, epoch: int) -> Sequence[Utterance]:
        return self.train

    def eval_utterances(self) -> Evaluated:
        return self.eval
