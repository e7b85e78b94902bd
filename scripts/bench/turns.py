"""What runs in turn, in one process, so that a noisy machine disturbs all alike."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

import torch

Found = TypeVar("Found")


def now() -> float:
    """The time in seconds, once a GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class Turns:
    """The seconds of several contenders, by name and turn, without the first turns, which warm
    up."""

    def __init__(self, warm: int = 0, clock: Callable[[], float] = now) -> None:
        self.warm = warm
        self.clock = clock
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.taken = 0

    def take(self, contenders: Mapping[str, Callable[[], Found]]) -> dict[str, Found]:
        """Runs each once, in the other order every second time, and returns what they return."""
        found, order = {}, list(contenders)
        for name in order if self.taken % 2 else reversed(order):
            started = self.clock()
            found[name] = contenders[name]()
            if self.taken >= self.warm:
                self.seconds[name].append(self.clock() - started)
        self.taken += 1
        return found

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, other: str) -> float:
        return median_ratio(self.seconds[name], self.seconds[other])


def median_ratio(values: Iterable[float], others: Iterable[float]) -> float:
    """The median of the ratios within a turn."""
    return statistics.median(a / b for a, b in zip(values, others, strict=True))


def speed(steps: Iterator[int], count: int) -> float:
    """Utterances per second over so many steps, each of which yields how many it took."""
    started = now()
    return sum(islice(steps, count)) / (now() - started)


def line(*cells: str | float, digits: int = 2) -> str:
    """A line of a Markdown table."""
    shown = (f"{c:.{digits}f}" if isinstance(c, float) else str(c) for c in cells)
    return f"| {' | '.join(shown)} |"


def header(texts: Sequence[str], numbers: Sequence[str]) -> str:
    """The first lines of a Markdown table, whose first columns are text."""
    rule = ["---"] * len(texts) + ["---:"] * len(numbers)
    return f"{line(*texts, *numbers)}\n{line(*rule)}"
