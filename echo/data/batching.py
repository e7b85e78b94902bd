"""Which utterances form a batch: buckets of similar duration, in a seeded order."""

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from echo.data.packing import Packer
from echo.data.utterance import Corpus, Utterance
from echo.model.geometry import Limits
from echo.support.errors import DataError


@dataclass(frozen=True)
class Position:
    """Where training stands in its data: so many batches of this block of this epoch are done, by
    all processes together. A corpus that is held whole has one block; see
    echo.data.corpora.stream."""

    epoch: int = 0
    batch: int = 0
    block: int = 0


@dataclass(frozen=True, slots=True)
class Item:
    """One training example: an utterance of an epoch, and the speed it is played at."""

    epoch: int
    index: int
    speed: float
    # Of a stream or of packed data, the utterance itself, or what is wrong with a row that should
    # be one; else it is looked up where it is needed.
    row: Utterance | DataError | None = None


def bucket(
    durations: Sequence[float],
    max_batch_seconds: float,
    max_batch_size: int,
    rng: random.Random | None = None,
) -> list[list[int]]:
    """Groups utterances into batches of at most so many seconds, padding included.

    Neighbours in duration share a batch, so little of it is padding. With `rng`, durations are
    blurred by 5 %, so that batches differ from epoch to epoch, and batches are shuffled.

    Returns:
        Indices into `durations`, each exactly once. An utterance longer than the limit is a
        batch of its own.
    """
    blur = [rng.uniform(0.95, 1.05) if rng else 1.0 for _ in durations]
    order = sorted(range(len(durations)), key=lambda i: durations[i] * blur[i])
    batches: list[list[int]] = []
    longest = 0.0
    for index in order:
        longest = max(longest, durations[index])
        size = len(batches[-1]) + 1 if batches else 1
        if not batches or size > max_batch_size or size * longest > max_batch_seconds:
            batches.append([])
            longest = durations[index]
        batches[-1].append(index)
    if rng:
        rng.shuffle(batches)
    return batches


class EpochBatches:
    """An endless sampler of training batches: epoch after epoch, from a position on.

    The order depends on the seed and the epoch alone, so a position is all that resuming needs,
    and skipping to it decodes nothing. Several processes are dealt this one order round by round,
    a batch each, over the ends of epochs too: so none is ever without a batch, however few there
    are, none is left out or repeated, and another number of processes goes on from a position as
    well.
    """

    def __init__(
        self,
        corpus: Corpus,
        seed: int,
        max_batch_seconds: float,
        max_batch_size: int,
        speeds: Sequence[float],
        start: Position,
        rank: int = 0,
        world: int = 1,
        limits: Limits | None = None,
        packer: Packer | None = None,
    ) -> None:
        """
        Args:
            start: where it begins.
            rank, world: which of how many processes this is.
            limits: the model's, which say how much silence is added; None adds none.
            packer: joins utterances into windows; None leaves each alone.
        """
        self.corpus = corpus
        self.seed = seed
        self.max_batch_seconds = max_batch_seconds
        self.max_batch_size = max_batch_size
        self.speeds = speeds
        self.start = start
        self.rank = rank
        self.world = world
        self.limits = limits
        self.packer = packer
        self.ahead: deque[Position] = deque()  # of what is yielded and not yet taken

    def blocks(self, epoch: int) -> int:
        """How many parts an epoch is drawn in."""
        return 1

    def block_batches(self, epoch: int, block: int) -> list[list[Item]]:
        """All batches of one part of an epoch."""
        rng = random.Random(f"{self.seed}-{epoch}")
        utterances = self.corpus.train_epoch(epoch)
        if self.packer:
            return self.in_packed_batches(epoch, utterances, rng)
        items = [Item(epoch, i, rng.choice(self.speeds)) for i in range(len(utterances))]
        return self.in_batches(items, utterances, rng)

    def in_packed_batches(
        self, epoch: int, utterances: Sequence[Utterance], rng: random.Random
    ) -> list[list[Item]]:
        assert self.packer is not None
        packed = self.packer.pack(utterances, self.speeds, rng)
        items = [Item(epoch, i, speed, row) for i, (row, speed) in enumerate(packed)]
        return self.in_batches(items, [row for row, _ in packed], rng)

    def in_batches(
        self, items: Sequence[Item], utterances: Sequence[Utterance], rng: random.Random
    ) -> list[list[Item]]:
        durations = [self.seconds(u, i) for u, i in zip(utterances, items, strict=True)]
        batches = bucket(durations, self.max_batch_seconds, self.max_batch_size, rng)
        return [[items[i] for i in batch] for batch in batches]

    def seconds(self, utterance: Utterance, item: Item) -> float:
        """How long an example is, with the silence that is added to it."""
        seconds = utterance.duration / item.speed
        return self.limits.padded_seconds(seconds) if self.limits else seconds

    def __iter__(self) -> Iterator[list[Item]]:
        """This process's batches."""
        self.ahead.clear()
        walk = self.walk()
        while True:
            dealt = list(islice(walk, self.world))
            self.ahead.append(dealt[-1][1])
            yield dealt[self.rank][0]

    def positions(self) -> Iterator[Position]:
        """The position after each batch that iteration has yielded. Read it in step with the
        batches as they are used: a loader draws batches ahead of that."""
        while self.ahead:
            yield self.ahead.popleft()

    def walk(self) -> Iterator[tuple[list[Item], Position]]:
        """The batches of all processes, each with the position after it."""
        epoch, first, done = self.start.epoch, self.start.block, self.start.batch
        while True:
            for block in range(first, self.blocks(epoch)):
                batches = self.block_batches(epoch, block)
                for number, batch in enumerate(batches[done:], done + 1):
                    yield batch, Position(epoch, number, block)
                done = 0
            epoch, first, done = epoch + 1, 0, 0
