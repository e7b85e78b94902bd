"""Confidence intervals for word error rates and their differences, by bootstrap resampling.

This is the bootstrap of Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR
performance evaluation". The set is resampled with replacement. All models share each resample, so
difficulty that is common to all of them cancels out of their differences.

A model's seeds are drawn too, apart from the utterances. A few seeds vary less than what they were
drawn from: where nothing else varies, the interval of a plain bootstrap over three of them holds
the truth in 75 % of cases, not in 95 %. Their draws are therefore spread until means over them vary
as Student's t does.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95
SEED = 0
DRAWN_AT_ONCE = 1_000_000  # limits memory use

# Errors in utterances of one speaker are correlated, so drawing single utterances makes intervals
# too narrow. Drawing only a handful of speakers does so too (Cameron, Gelbach, Miller 2008,
# "Bootstrap-based improvements for inference with clustered errors").
MIN_SPEAKERS = 20


@dataclass(frozen=True)
class Estimate:
    """A word error rate, or a difference of two, and how sure it is. Only a difference has
    `better`, the share of resamples in which it is below 0. With one unit to draw, nothing says
    how sure a value is: `interval` and `better` are None."""

    value: float
    interval: tuple[float, float] | None
    better: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns a difference in the form that results record."""
        return {"difference": self.value, "interval": self.interval, "better": self.better}


def bootstrap(
    errors: np.ndarray,
    words: np.ndarray,
    units: Sequence[Hashable],
    baseline: int = 0,
    resamples: int = RESAMPLES,
    sets: Sequence[str] | None = None,
) -> tuple[list[Estimate], list[Estimate]]:
    """Estimates the models' word error rates, and how they differ from that of the model with the
    index `baseline`. Errors, (models, utterances) or (models, trainings, utterances), words and
    units are as for `resampled_rates`. With the name of each utterance's data set, the rate is the
    mean of the sets' rates, and each set is drawn from by itself."""
    trained = errors if errors.ndim == 3 else errors[:, None]
    pooled, said = trained.sum(1), trained.shape[1] * words
    parts = [*members(sets or [""] * len(words)).values()]
    own = [[units[i] for i in part] for part in parts]
    by_training = np.mean([rates(trained[..., part], words[part]) for part in parts], axis=0)
    values = by_training.mean(1)
    drawn = np.mean(
        [
            resampled_rates(pooled[:, part], said[part], drawn_by, resamples, seed)
            for seed, (part, drawn_by) in enumerate(zip(parts, own, strict=True), SEED)
        ],
        axis=0,
    )
    drawn += resampled_deviations(by_training, resamples)
    gaps = values - values[baseline]
    if min(len(set(drawn_by)) for drawn_by in own) < 2:
        return [Estimate(float(v), None) for v in values], [Estimate(float(v), None) for v in gaps]
    return (
        [Estimate(float(v), interval(row.clip(0))) for v, row in zip(values, drawn, strict=True)],
        [
            Estimate(float(v), interval(row), share_better(row))
            for v, row in zip(gaps, drawn - drawn[baseline], strict=True)
        ],
    )


def rates(errors: np.ndarray, words: np.ndarray) -> np.ndarray:
    """The error rates of errors (..., utterances), as in `ErrorCounts.rate`."""
    wrong, said = errors.sum(-1), words.sum()
    return wrong / said if said else (wrong > 0).astype(float)


def members(labels: Sequence[str]) -> dict[str, list[int]]:
    """The indices of those with each label, in the order in which labels first come."""
    found: dict[str, list[int]] = {}
    for index, each in enumerate(labels):
        found.setdefault(each, []).append(index)
    return found


@dataclass(frozen=True)
class Resampling:
    """What intervals are over, and how they are drawn, as results record it."""

    unit: str  # "utterance" or "speaker"
    units: int
    utterances: int
    seeds: int | None = None  # of each model; None where models were only measured
    resamples: int = RESAMPLES
    level: float = LEVEL
    seed: int = SEED  # of the draws
    sets: int | None = None  # of several data sets, each drawn from by itself

    @classmethod
    def of(
        cls,
        speakers: Sequence[str | None],
        seeds: int | None = None,
        sets: Sequence[str] | None = None,
    ) -> "Resampling":
        """How the intervals of utterances by these speakers, in these data sets, are drawn."""
        unit, units = resampling_units(speakers, sets)
        several = len(set(sets)) if sets else 1
        counts = len(set(units)), len(speakers)
        return cls(unit, *counts, seeds, sets=several if several > 1 else None)

    @property
    def over(self) -> str:
        """ "over 3 seeds and 300 utterances of 20 speakers" """
        utterances = f"{self.utterances} utterances"
        if self.unit == "speaker":
            utterances += f" of {self.units} speakers"
        if self.sets:
            utterances += f" in {self.sets} data sets"
        if self.seeds == 1:
            return f"over {utterances}; one seed, so not over seeds"
        return f"over {self.seeds} seeds and {utterances}" if self.seeds else f"over {utterances}"


def resampling_units(
    speakers: Sequence[str | None], sets: Sequence[str] | None = None
) -> tuple[str, Sequence[Hashable]]:
    """Returns the unit that the bootstrap draws, "speaker" or "utterance", and that of each
    utterance: its speaker or its index. Speakers are drawn if each data set has enough."""
    parts = members(sets or [""] * len(speakers)).values()
    spoken = [{speakers[i] for i in part} for part in parts]
    if speakers and all(None not in part and len(part) >= MIN_SPEAKERS for part in spoken):
        return "speaker", speakers if sets is None else [*zip(sets, speakers, strict=True)]
    return "utterance", range(len(speakers))


def resampled_rates(
    errors: np.ndarray,
    words: np.ndarray,
    units: Sequence[Hashable],
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> np.ndarray:
    """Computes the error rates of all models on resampled sets. The same arguments always give
    the same numbers.

    Args:
        errors: (models, utterances), whole numbers.
        words: (utterances,), the number of words in each reference.
        units: (utterances,). Utterances with the same unit are drawn together.

    Returns:
        (models, resamples). For a resample without words the rate is 0 without errors and 1
        otherwise, as in `ErrorCounts.rate`.
    """
    number = {unit: i for i, unit in enumerate(dict.fromkeys(units))}
    of = [number[unit] for unit in units]
    unit_errors = np.stack([np.bincount(of, row) for row in errors])
    unit_words = np.bincount(of, words)
    rng = np.random.default_rng(seed)
    step = max(1, DRAWN_AT_ONCE // len(number))
    rates = []
    for start in range(0, resamples, step):
        times = drawn_times(rng, min(step, resamples - start), len(number))
        wrong, said = unit_errors @ times.T, times @ unit_words
        rates.append(np.where(said > 0, wrong / np.maximum(said, 1), wrong > 0))
    return np.concatenate(rates, axis=1)


def resampled_deviations(by_training: np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """Draws the seeds of trainings with replacement, the same ones for all models, and returns how
    far that moves each model's error rate from its mean: (models, resamples), from (models,
    trainings). Means over n seeds vary as Student's t with n - 1 degrees of freedom does: the
    variance of a bootstrap is (n - 1) / n of what it should be, and a chi-squared draw stands for
    not knowing it."""
    seeds = by_training.shape[1]
    if seeds == 1:
        return np.zeros((len(by_training), resamples))
    rng = np.random.default_rng([SEED, 1])
    times = drawn_times(rng, resamples, seeds) - 1
    return (
        by_training @ (times * np.sqrt(seeds / rng.chisquare(seeds - 1, (resamples, 1)))).T / seeds
    )


def drawn_times(rng: np.random.Generator, draws: int, count: int) -> np.ndarray:
    """Draws `count` of `count` things with replacement, `draws` times, and returns how often each
    was drawn: (draws, count)."""
    drawn = rng.integers(count, size=(draws, count)) + count * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * count).reshape(draws, count).astype(float)


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Returns the range that contains the middle share `level` of (resamples,) values."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def share_better(differences: np.ndarray) -> float:
    """Returns the share of (resamples,) error rate differences that are below 0; ties count half.
    This is Bisani and Ney's probability of improvement. It is 0.5 for a model and itself."""
    return float(np.mean(differences < 0) + np.mean(differences == 0) / 2)
