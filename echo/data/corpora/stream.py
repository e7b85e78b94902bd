"""Training data of any size, with a few shards in memory at a time."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count

from echo.data.corpora.mixed import Weighted, mix
from echo.data.utterance import Corpus, Evaluated, Utterance
from echo.support.errors import DataError

HELD_SHARD = 256  # utterances per shard of a source held in memory and mixed with streams

# A part of a source that is read as one, each time anew and in the same order: every row as an
# utterance, or the reason why it is none.
Shard = Iterable[Utterance | DataError]


def held_shards(utterances: Sequence[Utterance]) -> list[Shard]:
    """Cuts a source that is held in memory into shards."""
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
        training.

        Raises:
            DataError: none of them can be used.
        """
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
