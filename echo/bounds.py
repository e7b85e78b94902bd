"""Bounds of settings, written beside their types: `Annotated[float, Range(0, 1)]`."""

import math
from dataclasses import dataclass
from typing import Annotated, Any

LARGEST = 2**63 - 1  # no tensor is larger, nor counts further


@dataclass(frozen=True)
class Range:
    """A finite number from `low` to `high`, both included, unless it must be `above` its low."""

    low: float
    high: float = math.inf
    above: bool = False

    def allows(self, value: float) -> bool:
        if not abs(value) <= LARGEST:  # nor is what is not a number
            return False
        return self.low <= value <= self.high and not (self.above and value == self.low)

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"more than {self.low:g}" if self.above else f"{self.low:g} or more"
        if self.above:
            return f"more than {self.low:g} and at most {self.high:g}"
        return f"from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Length:
    """A list of `least` entries or more, `most` at the most."""

    least: int
    most: float = math.inf

    def allows(self, value: list[Any]) -> bool:
        return self.least <= len(value) <= self.most

    def __str__(self) -> str:
        return f"a list of {self.least}{' or more' if self.most > self.least else ''}"


Count = Annotated[int, Range(0)]
Positive = Annotated[int, Range(1)]
Amount = Annotated[float, Range(0)]
PositiveAmount = Annotated[float, Range(0, above=True)]
Share = Annotated[float, Range(0, 1)]
