"""Several sources in one epoch, each as often as its weight says: held whole, or streamed with a
few shards in memory at a time."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, count
from math import floor
from typing import Generic, TypeVar

from echo.data.columns import Joined, taken
from echo.data.utterance import Corpus, Evaluated, Utterance
from echo.support.errors import DataError

HELD_SHARD = 256  # utterances per shard of a source held in memory and mixed with streams

# A part of a source that is read as one, each time anew and in the same order: every row as an
# utterance, or the reason why it is none.
Shard = Iterable[Utterance | DataError]
Part = TypeVar("Part")


@dataclass(frozen=True)
class Weighted(Generic[Part]):
    """A source, as its utterances or as shards of them, and how often an epoch takes it: with a
    weight of 2 twice, with 0.5 a half, and the other half in the epoch that follows."""

    parts: Sequence[Part]
    weight: float = 1.0


def mix(sources: Sequence[Weighted[Part]], seed: int, epoch: int) -> list[Part]:
    """Returns the parts that make up an epoch; see `turns`."""
    return [*chain.from_iterable(turns(sources, seed, epoch))]


def turns(sources: Sequence[Weighted[Part]], seed: int, epoch: int) -> Iterator[Sequence[Part]]:
    """Yields the parts that make up an epoch, source by source.

    Each source goes round and round, every time in another order, and an epoch takes up where the
    one before has stopped: so no part comes again before all others of its source have come.
    """
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
            yield taken(source.parts, order[first:last])
            place += last - first


@dataclass(frozen=True)
class MixedCorpus:
    """Sources that are held whole, mixed anew in every epoch."""

    sources: Sequence[Weighted[Utterance]]
    eval: Evaluated
    seed: int

    def train_epoch(self, epoch: int) -> Sequence[Utterance]:
        return Joined([*turns(self.sources, self.seed, epoch)])

    def eval_utterances(self) -> Evaluated:
        return self.eval


def held_shards(utterances: Sequence[Utterance]) -> list[Shard]:
    starts = range(0, len(utterances), HELD_SHARD)
    return [utterances[start : start + HELD_SHARD] for start in starts]


@dataclass(frozen=True)
class StreamCorpus:
    """Sources in shards, which are shuffled in every epoch, and read block by block: so many
    shards at a time, whose utterances are shuffled and batched together.

    Which shards make up a block is known without reading any, so going on from a block reads
    none that came before.
    """

    sources: Sequence[Weighted[Shard]]
    eval: Evaluated
    seed: int
    shards_per_block: int

    def blocks(self, epoch: int) -> list[list[Shard]]:
        shards = mix(self.sources, self.seed, epoch)
        random.Random(f"{self.seed}-{epoch}-shards").shuffle(shards)
        size = self.shards_per_block
        return [shards[start : start + size] for start in range(0, len(shards), size)]

    def known_utterances(self) -> list[Utterance]:
        """Returns the utterances of the first block, for what must be known of the data before
        training. A DataError says that none can be used."""
        utterances, bad = read_block(next(b for epoch in count() for b in self.blocks(epoch)))
        if not utterances:
            why = f"; the first is {bad[0]}" if bad else ""
            raise DataError(f"none of the stream's first {len(bad)} rows can be used{why}")
        return utterances

    def eval_utterances(self) -> Evaluated:
        return self.eval


AnyCorpus = Corpus | StreamCorpus


def read_block(shards: Iterable[Shard]) -> tuple[list[Utterance], list[DataError]]:
    """Returns the utterances of some shards, and what is wrong with their other rows."""
    utterances: list[Utterance] = []
    bad: list[DataError] = []
    for shard in shards:
        for row in shard:
            bad.append(row) if isinstance(row, DataError) else utterances.append(row)
    return utterances, bad
