"""Confidence intervals for word error rates and their differences, by bootstrap resampling.

This is the bootstrap of Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR
performance evaluation". The set is resampled with replacement. All models share each resample, so
difficulty that is common to all of them cancels out of their differences.
"""

from collections.abc import Hashable, Sequence

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95
SEED = 0
DRAWN_AT_ONCE = 1_000_000  # limits memory use


def resampled_rates(
    errors: np.ndarray,
    words: np.ndarray,
    units: Sequence[Hashable],
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> np.ndarray:
    """Computes the error rates of all models on resampled sets. The same arguments always give
    the same numbers.

    If models were trained with several seeds, each resample also draws seeds with replacement,
    the same ones for all models. The rate is then over the drawn units and the drawn seeds (Owen
    2007, "The pigeonhole bootstrap").

    Args:
        errors: (models, utterances) or (models, trainings, utterances), whole numbers.
        words: (utterances,), the number of words in each reference.
        units: (utterances,), the unit of each utterance. Utterances with the same unit are drawn
            together, because, for example, those of one speaker are not independent of each other.
            If all units differ, single utterances are drawn.

    Returns:
        (models, resamples). For a resample without words the rate is 0 without errors and 1
        otherwise, as in `ErrorCounts.rate`.
    """
    trained = errors if errors.ndim == 3 else errors[:, None]
    trainings = trained.shape[1]
    number = {unit: i for i, unit in enumerate(dict.fromkeys(units))}
    of = [number[unit] for unit in units]
    unit_errors = np.stack([[np.bincount(of, row) for row in model] for model in trained])
    unit_words = np.bincount(of, words)
    rng = np.random.default_rng(seed)
    trainings_rng = np.random.default_rng([seed, 1])
    step = max(1, DRAWN_AT_ONCE // len(number))
    rates = []
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        times = drawn_times(rng, count, len(number))
        training_times = drawn_times(trainings_rng, count, trainings)
        wrong = np.einsum("mtr,rt->mr", unit_errors @ times.T, training_times)
        said = trainings * (times @ unit_words)
        rates.append(np.where(said > 0, wrong / np.maximum(said, 1), wrong > 0))
    return np.concatenate(rates, axis=1)


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
