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

    Args:
        errors: (models, utterances), whole numbers.
        words: (utterances,), in the references.
        units: (utterances,), what is drawn as one: the utterances of a speaker, say, are not
            independent of each other. Where all differ, utterances are drawn.

    Returns:
        (models, resamples). Of a draw without words it is, as in `ErrorCounts.rate`, 0 without
        errors and else 1.
    """
    number = {unit: i for i, unit in enumerate(dict.fromkeys(units))}
    of = [number[unit] for unit in units]
    unit_errors = np.stack([np.bincount(of, row) for row in errors])
    unit_words = np.bincount(of, words)
    rng = np.random.default_rng(seed)
    step = max(1, DRAWN_AT_ONCE // len(number))
    rates = []
    for start in range(0, resamples, step):
        drawn = rng.integers(len(number), size=(min(step, resamples - start), len(number)))
        wrong, said = unit_errors[:, drawn].sum(-1), unit_words[drawn].sum(-1)
        rates.append(np.where(said > 0, wrong / np.maximum(said, 1), wrong > 0))
    return np.concatenate(rates, axis=1)


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The range that holds the middle `level` of (resamples,) values."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def share_better(differences: np.ndarray) -> float:
    """The share of (resamples,) differences of error rates that are below 0, equals by halves:
    Bisani and Ney's probability of improvement, and 0.5 of a model and itself."""
    return float(np.mean(differences < 0) + np.mean(differences == 0) / 2)
