"""What the best of several models is chosen by: the WER of one data set, or a weighted mean over
several. Imports nothing heavy."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from echo.config import SET_NAME, RunConfig
from echo.data.named import evaluation_sources
from echo.support.errors import ConfigError
from echo.support.text import brief

TERM = re.compile(rf"(?:(\d+(?:\.\d*)?|\.\d+)\s+)?({SET_NAME.pattern})")
EXAMPLE = "own + 0.5 general"


@dataclass(frozen=True)
class Criterion:
    """A weighted mean of WERs, to be made small."""

    weights: Mapping[str, float]  # by the set's name

    def wer(self, wers: Mapping[str, float]) -> float:
        """The weighted mean of WERs by their sets' names."""
        total = sum(weight * wers[name] for name, weight in self.weights.items())
        return total / sum(self.weights.values())

    def __str__(self) -> str:
        """As `read_criterion` takes it."""
        terms = [f"{w:g} {name}" if w != 1 else name for name, w in self.weights.items()]
        return " + ".join(terms)


def read_criterion(expression: str | None, names: Sequence[str], key: str) -> Criterion:
    """Reads an expression such as "own + 0.5 general", of the names of data sets; None chooses by
    the first set. Messages name the setting or option that holds it, its `key`."""
    if expression is None:
        return Criterion({names[0]: 1.0})
    if names == [""]:
        raise ConfigError(f"{key} has no effect on a single data set without a name: leave it out")
    weights: dict[str, float] = {}
    for term in expression.split("+"):
        found = TERM.fullmatch(term.strip())
        if found is None or not 0 < float(found[1] or 1) < math.inf:
            raise ConfigError(
                f"{key}: {brief(term.strip())!r} is not the name of a data set, with or without a "
                f"weight above 0 before it, as in '{EXAMPLE}'"
            )
        name = found[2]
        if name not in names:
            raise ConfigError(f"{key} names the data set {name!r}, but there is {', '.join(names)}")
        if name in weights:
            raise ConfigError(f"{key} names the data set {name!r} twice")
        weights[name] = float(found[1] or 1)
    return Criterion(weights)


def run_criterion(config: RunConfig) -> Criterion:
    """What a run's checkpoints are chosen by."""
    names = list(evaluation_sources(config.data))
    return read_criterion(config.train.best, names, "train.best")
