"""What a page can show. Every kind of result is read into this form, with what it has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from echo.report.alignment import Alignment

WerName = Literal["wer", "wer_normalised"]
Event = Mapping[str, Any]
Certainty = Literal["sure", "unsure", "one seed", "unknown"]

CHIPS: dict[Certainty, str] = {
    "sure": "Hardly luck",
    "unsure": "May be luck",
    "one seed": "One seed",
    "unknown": "Luck or not: unknown",
}


@dataclass(frozen=True)
class Line:
    """One utterance, and what each run wrote down for it."""

    id: str
    duration: float  # seconds
    speaker: str | None
    references: Mapping[WerName, str]
    hypotheses: Mapping[WerName, Sequence[str]]  # one per run, in the order of `Result.runs`
    alignments: Mapping[WerName, Sequence[Alignment]]
    starts: Sequence[Sequence[float] | None]  # of each run's words in seconds, where it knows them


@dataclass(frozen=True)
class Run:
    """One training of a model, or a model that was only measured."""

    model: str
    seed: str | None = None
    events: Sequence[Event] = ()  # of training

    @property
    def name(self) -> str:
        return self.model if self.seed is None else f"{self.model}, seed {self.seed}"


@dataclass(frozen=True)
class Figure:
    """A row of the table of models: one figure of each, such as parameters or memory."""

    name: str
    values: Mapping[str, str]  # as shown, by model
    numbers: Mapping[str, float]  # by model, to compare
    note: str = ""
    is_cost: bool = False

    @property
    def in_words(self) -> str:
        """The name within a sentence."""
        return self.name if self.name[:2].isupper() else self.name.lower()


@dataclass(frozen=True)
class Difference:
    """How much a model's WER differs from the baseline's, and how sure that is."""

    model: str
    baseline: str
    value: float  # below 0 where the model is better
    interval: tuple[float, float] | None
    better: float | None  # share of resamples
    one_seed: bool = False  # of several that the models could have been trained with

    @property
    def certainty(self) -> Certainty:
        if self.interval is None:
            return "unknown"
        low, high = self.interval
        if low <= 0 <= high:
            return "unsure"
        return "one seed" if self.one_seed else "sure"

    @property
    def chip(self) -> str:
        return CHIPS[self.certainty]


@dataclass(frozen=True)
class Result:
    """What a page shows. What is empty has no section."""

    kind: Literal["pilot", "comparison", "evaluation", "run"]
    data: str  # the set's name
    runs: Sequence[Run]
    baseline: str
    wer: WerName  # what the verdict goes by
    lines: Sequence[Line] = ()
    rates: Mapping[str, float] = field(default_factory=dict)  # WER by model
    differences: Sequence[Difference] = ()
    drawn: str = ""  # what the intervals are over
    figures: Sequence[Figure] = ()
    groups: Mapping[str, Mapping[str, Sequence[int]]] = field(default_factory=dict)
    by: Sequence[str] = ()  # columns of the data set to group by, besides those in `groups`
    configs: Mapping[str, Any] = field(default_factory=dict)  # by model
    # By model its folder or hub id, and which checkpoint of a run was measured.
    checkpoints: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def models(self) -> list[str]:
        return list(dict.fromkeys(run.model for run in self.runs))

    @property
    def views(self) -> list[WerName]:
        """The WERs that there are texts for; the verdict's first."""
        found = self.lines[0].references if self.lines else {}
        return sorted(found, key=lambda name: name != self.wer)

    @property
    def view(self) -> WerName:
        """The texts that tables of errors go by: the verdict's, or else those there are."""
        return self.views[0]

    def runs_of(self, model: str) -> list[int]:
        return [i for i, run in enumerate(self.runs) if run.model == model]

    def errors(self, view: WerName) -> np.ndarray:
        """(models, trainings, utterances): word errors. All models have as many trainings."""
        return np.array(
            [
                [[line.alignments[view][i].errors for line in self.lines] for i in self.runs_of(m)]
                for m in self.models
            ]
        )

    def words(self, view: WerName) -> np.ndarray:
        """(utterances,): words in the references."""
        return np.array([len(line.alignments[view][0].reference) for line in self.lines])
