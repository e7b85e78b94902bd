"""Training data of any size, with a few shards in memory at a time."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from echo.data.batching import EpochBatches, Item
from echo.data.corpora.mixed import Weighted, mix
from echo.data.utterance import Corpus, Evaluated, Utterance
from echo.support.errors import DataError

HELD_SHARD = 256  # utterances per shard of a source held in memory and mixed with streams


class Shard(Protocol):
    """A part of a source that is read as one."""

    def read(self) -> Iterable[Utterance | DataError]:
        """Every row, always in the same order: an utterance, or the reason why it is none."""
        ...


@dataclass(frozen=True)
class HeldShard:
    """A part of a source that is held in memory."""

    rows: Sequence[Utterance]

    def read(self) -> Iterable[Utterance | DataError]:
        return self.rows


def held_shards(utterances: Sequence[Utterance]) -> list[HeldShard]:
    starts = range(0, len(utterances), HELD_SHARD)
    return [HeldShard(utterances[start : start + HELD_SHARD]) for start in starts]


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
        """Those of the first block, for what must be known of the data before training.

        Raises:
            DataError: none of them can be used.
        """
        first = next(block for epoch in count() for block in self.blocks(epoch))
        rows = [row for shard in first for row in shard.read()]
        utterances = [row for row in rows if isinstance(row, Utterance)]
        if not utterances:
            why = f"; the first is {rows[0]}" if rows else ""
            raise DataError(f"none of the stream's first {len(rows)} rows can be used{why}")
        return utterances

    def eval_utterances(self) -> Evaluated:
        return self.eval


AnyCorpus = Corpus | StreamCorpus


class StreamBatches(EpochBatches):
    """The batches of a stream. Every process reads all metadata, so that all have the same order;
    a recording in a tar shard is read only by the worker that needs it."""

    corpus: StreamCorpus  # type: ignore[assignment]

    def blocks(self, epoch: int) -> int:
        return len(self.corpus.blocks(epoch))

    def block_batches(self, epoch: int, block: int) -> list[list[Item]]:
        rows = [row for shard in self.corpus.blocks(epoch)[block] for row in shard.read()]
        good = [row for row in rows if isinstance(row, Utterance)]
        # Errors travel with the first batch and are counted with it.
        bad = [Item(epoch, -1, 1.0, row) for row in rows if isinstance(row, DataError)]
        rng = random.Random(f"{self.seed}-{epoch}-{block}")
        if self.packer:
            batches = self.in_packed_batches(epoch, good, rng) or [[]]
        else:
            items = [Item(epoch, i, rng.choice(self.speeds), row) for i, row in enumerate(good)]
            batches = self.in_batches(items, good, rng) or [[]]
        return [bad + batches[0], *batches[1:]] if bad or good else []
