"""Several sources in one epoch, each as often as its weight says."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import Generic, TypeVar

from echo.data.utterance import Evaluated, Utterance

Part = TypeVar("Part")


@dataclass(frozen=True)
class Weighted(Generic[Part]):
    """A source, as its utterances or as shards of them, and how often an epoch takes it: with a
    weight of 2 twice, with 0.5 a half, and the other half in the epoch that follows."""

    parts: Sequence[Part]
    weight: float = 1.0


def mix(sources: Sequence[Weighted[Part]], seed: int, epoch: int) -> list[Part]:
    """Returns the parts that make up an epoch, source by source.

    Each source goes round and round, every time in another order, and an epoch takes up where the
    one before has stopped: so no part comes again before all others of its source have come.
    """
    taken: list[Part] = []
    for number, source in enumerate(sources):
        size = len(source.parts)
        # An exact fraction, or rounding would skip a part or take it twice.
        share = Fraction(str(source.weight)) * size
        place, end = floor(epoch * share), floor((epoch + 1) * share)
        while place < end:
            turn, first = divmod(place, size)
            order = list(range(size))
            random.Random(f"{seed}-{number}-{turn}").shuffle(order)
            last = min(size, first + end - place)
            taken += [source.parts[i] for i in order[first:last]]
            place += last - first
    return taken


@dataclass(frozen=True)
class MixedCorpus:
    """Sources that are held whole, mixed anew in every epoch."""

    sources: Sequence[Weighted[Utterance]]
    eval: Evaluated
    seed: int

    def train_epoch(self, epoch: int) -> Sequence[Utterance]:
        return mix(self.sources, self.seed, epoch)

    def eval_utterances(self) -> Evaluated:
        return self.eval
