"""Counts of values by bins of equal width, with round edges."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 40  # at most
# A few far values must not squeeze all others into one bin: the last one ends where 98 % of the
# values do, or 5 times the quartiles' distance above the upper quartile.
SHARE, FAR = 0.98, 5
LEAST_WIDTH = 0.001  # where all values are the same


@dataclass(frozen=True)
class Histogram:
    title: str
    unit: str
    start: float  # of the first bin
    width: float
    counts: list[int]
    beyond: int  # values above the last bin
    largest: float


def histogram(title: str, unit: str, values: Sequence[float]) -> Histogram:
    """Counts one value or more, none of them below 0."""
    found = np.asarray(values, dtype=float)
    lower, upper, most = np.quantile(found, (0.25, 0.75, SHARE))
    low, high = found.min(), found[found <= max(most, upper + FAR * (upper - lower))].max()
    width = rounded_up(max((high - low) / BINS, LEAST_WIDTH))
    first = math.floor(low / width)
    bins = np.floor(found / width).astype(int) - first
    last = math.floor(high / width) - first
    counts = np.bincount(bins[bins <= last], minlength=last + 1)
    beyond = int((bins > last).sum())
    start = round(first * width, 9)
    return Histogram(title, unit, start, width, counts.tolist(), beyond, float(found.max()))


def rounded_up(width: float) -> float:
    """The next larger 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(width))
    return next(round(m * power, 9) for m in (1, 2, 5, 10) if m * power >= width)
