"""How sure a word error rate is, and the difference between two, by resampling what was measured.

The bootstrap of Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR
performance evaluation": the set is drawn anew with replacement, every time for all models alike,
so that what is hard for all of them falls out of their differences.
"""

from collections.abc import Hashable, Sequence

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95
SEED = 0
DRAWN_AT_ONCE = 1_000_000  # which bounds the memory


def resampled_rates(
    errors: np.ndarray,
    words: np.ndarray,
    units: Sequence[Hashable],
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> np.ndarray:
    """The error rates of all models on resampled sets. The same arguments give the same numbers.

    Where models were trained with several seeds, each resample also draws seeds with replacement,
    the same ones for all models, and the rate is over the drawn units and the drawn seeds (Owen
    2007, "The pigeonhole bootstrap").

    Args:
        errors: (models, utterances) or (models, trainings, utterances), whole numbers.
        words: (utterances,), in the references.
        units: (utterances,), what is drawn as one: the utterances of a speaker, say, are not
            independent of each other. Where all differ, utterances are drawn.

    Returns:
        (models, resamples). Of a draw without words it is, as in `ErrorCounts.rate`, 0 without
        errors and else 1.
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
    """How often each of `count` things is drawn in `draws` draws of `count`: (draws, count)."""
    drawn = rng.integers(count, size=(draws, count)) + count * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * count).reshape(draws, count).astype(float)


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The range that holds the middle `level` of (resamples,) values."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def share_better(differences: np.ndarray) -> float:
    """The share of (resamples,) differences of error rates that are below 0, equals by halves:
    Bisani and Ney's probability of improvement, and 0.5 of a model and itself."""
    return float(np.mean(differences < 0) + np.mean(differences == 0) / 2)
