"""One result: what was measured of one or more models, and how sure it is.

A comparison is a pilot whose models have one training each; an evaluation has one model. The
terminal, Markdown and the page show the same `Result`; `verdict` says it in words.
"""

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from echo.evaluate.alignment import Alignment
from echo.evaluate.statistics import Resampling

Kind = Literal["pilot", "comparison", "evaluation", "run"]
WerName = Literal["wer", "wer_normalised"]
Event = Mapping[str, Any]
Certainty = Literal["sure", "unsure", "one seed", "unknown"]
NONE = "–"  # shown for what a model does not have


@dataclass(frozen=True)
class Line:
    """One utterance, and what each run wrote down for it."""

    id: str
    duration: float  # seconds
    speaker: str | None
    references: Mapping[WerName, str]
    alignments: Mapping[WerName, Sequence[Alignment]]  # one per run, in the order of `Result.runs`
    starts: Sequence[Sequence[float] | None]  # of each run's words in seconds, where it knows them
    extra: Mapping[str, Any] = field(default_factory=dict)  # other columns; none if not found
    set: str = ""  # the name of its data set, of several


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
class Spread:
    """A number over all seeds of a model. TypeError if it is none."""

    mean: float
    least: float
    most: float

    def __post_init__(self) -> None:
        for number in (self.mean, self.least, self.most):
            if not isinstance(number, int | float):
                raise TypeError(f"{reprlib.repr(number)} is no number")


@dataclass(frozen=True)
class Figure:
    """A column of the table of models, such as parameters or memory; see
    `echo.evaluate.figures`."""

    name: str
    unit: str
    form: str  # how Python formats a number
    scale: float = 1.0  # what a number is multiplied by to be in the unit
    note: str = ""
    is_cost: bool = False  # whether the verdict's sentence about cost has it
    # By model; one that has no such figure is missing.
    numbers: Mapping[str, Spread] = field(default_factory=dict)

    def of(self, found: Mapping[str, Any], **changes: Any) -> "Figure":
        """Returns the column with what was found by model: a number, an object with its mean, least
        and most, or None; and with changes of other fields."""
        numbers = {
            model: Spread(**value) if isinstance(value, Mapping) else Spread(value, value, value)
            for model, value in found.items()
            if value is not None
        }
        return replace(self, numbers=numbers, **changes)

    def shown(self, model: str) -> str:
        """Returns the mean with its unit."""
        if model not in self.numbers:
            return NONE
        return f"{self.scale * self.numbers[model].mean:{self.form}} {self.unit}".strip()

    def extent(self, model: str) -> str:
        """Returns "1.05 to 1.15", the least and the most; empty where they look the same."""
        if model not in self.numbers:
            return ""
        found = self.numbers[model]
        least, most = (f"{self.scale * value:{self.form}}" for value in (found.least, found.most))
        return "" if least == most else f"{least} to {most}"

    @property
    def in_words(self) -> str:
        """The name within a sentence."""
        return self.name if self.name[:2].isupper() else self.name[:1].lower() + self.name[1:]


@dataclass(frozen=True)
class Difference:
    """How much a model's WER differs from the baseline's, and how sure that is."""

    model: str
    baseline: str
    value: float  # below 0 where the model is better
    interval: tuple[float, float] | None
    better: float | None  # share of resamples
    one_seed: bool = False  # of several that the models could have been trained with

    @classmethod
    def of(
        cls, model: str, baseline: str, found: Mapping[str, Any], one_seed: bool = False
    ) -> "Difference":
        """What results record of a difference; see `Estimate.to_dict`."""
        value, interval, better = (found[key] for key in ("difference", "interval", "better"))
        return cls(model, baseline, value, interval, better, one_seed)

    @property
    def certainty(self) -> Certainty:
        if self.interval is None:
            return "unknown"
        low, high = self.interval
        if low <= 0 <= high:
            return "unsure"
        return "one seed" if self.one_seed else "sure"


@dataclass(frozen=True)
class Measure:
    """One word error rate of all models: of some texts, in one way of decoding."""

    rates: Figure
    differences: Sequence[Difference] = ()
    # By model the counts of errors with the rate's interval, as `error_rates` returns them.
    counts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What a page can show. What is empty has no section."""

    kind: Kind
    data: str  # the set's name
    runs: Sequence[Run]
    baseline: str
    measures: Sequence[Measure] = ()  # the verdict goes by the first
    resampling: Resampling | None = None
    figures: Sequence[Figure] = ()
    measured: Sequence[str] = ()  # sentences on how
    remarks: Mapping[str, Sequence[str]] = field(default_factory=dict)  # sentences by title
    about: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # texts by model and key

    wer: WerName = "wer"  # what the verdict goes by
    lines: Sequence[Line] = ()
    by: Sequence[str] = ()  # columns of the data set to group by, besides speaker and duration
    configs: Mapping[str, Any] = field(default_factory=dict)  # by model
    # By model its folder or hub id, and which checkpoint of a run was measured.
    checkpoints: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    made: Sequence[tuple[str, str]] = ()  # what the provenance says, in words

    @cached_property
    def models(self) -> list[str]:
        return list(dict.fromkeys(run.model for run in self.runs))

    @property
    def columns(self) -> list[Figure]:
        """The columns of the table of models that some model has something in."""
        found = [*(measure.rates for measure in self.measures), *self.figures]
        return [figure for figure in found if figure.numbers]

    @property
    def views(self) -> list[WerName]:
        """The WERs that there are texts for; the verdict's first, by which tables of errors go."""
        found = self.lines[0].references if self.lines else {}
        return sorted(found, key=lambda name: name != self.wer)

    @property
    def view(self) -> WerName:
        return self.views[0]

    def runs_of(self, model: str) -> list[int]:
        return [i for i, run in enumerate(self.runs) if run.model == model]

    def errors(self, view: WerName) -> np.ndarray:
        """Returns (models, trainings, utterances): word errors. All models have as many
        trainings."""
        return np.array(
            [
                [[line.alignments[view][i].errors for line in self.lines] for i in self.runs_of(m)]
                for m in self.models
            ]
        )

    def words(self, view: WerName) -> np.ndarray:
        """Returns (utterances,): words in the references."""
        return np.array([len(line.alignments[view][0].reference) for line in self.lines])
