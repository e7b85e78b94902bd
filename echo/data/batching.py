"""Which utterances form a batch: buckets of similar duration, in a seeded order."""

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, repeat

import numpy as np

from echo.data.columns import cells, taken
from echo.data.corpora.stream import AnyCorpus, StreamCorpus, read_block
from echo.data.packing import Packer
from echo.data.utterance import Utterance
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
    durations: Sequence[float] | np.ndarray,
    max_batch_seconds: float,
    max_batch_size: int,
    rng: random.Random | None = None,
) -> list[list[int]]:
    """Groups indices into `durations` into batches of at most so many seconds, padding included.
    One that is longer is a batch of its own.

    Neighbours in duration share a batch, so little of it is padding. With `rng`, durations are
    blurred by 5 %, so that batches differ from epoch to epoch, and batches are shuffled.
    """
    seconds = np.asarray(durations, dtype=np.float64)
    blur = np.array([rng.uniform(0.95, 1.05) if rng else 1.0 for _ in seconds])
    order = np.argsort(seconds * blur, kind="stable")
    batches: list[list[int]] = []
    longest = 0.0
    for index, duration in zip(order.tolist(), seconds[order].tolist(), strict=True):
        longest = max(longest, duration)
        size = len(batches[-1]) + 1 if batches else 1
        if not batches or size > max_batch_size or size * longest > max_batch_seconds:
            batches.append([])
            longest = duration
        batches[-1].append(index)
    if rng:
        rng.shuffle(batches)
    return batches


@dataclass(eq=False)
class EpochBatches:
    """An endless sampler of training batches: epoch after epoch, from a position on.

    The order depends on the seed and the epoch alone, so a position is all that resuming needs,
    and skipping to it decodes nothing. Several processes are dealt this one order round by round,
    a batch each, over the ends of epochs too: so none is ever without a batch, however few there
    are, none is left out or repeated, and another number of processes goes on from a position as
    well.
    """

    corpus: AnyCorpus
    seed: int
    max_batch_seconds: float
    max_batch_size: int
    speeds: Sequence[float]
    start: Position  # where it begins
    rank: int = 0  # which process this is
    world: int = 1  # of how many
    limits: Limits | None = None  # the model's: how much silence is added; None adds none
    packer: Packer | None = None  # joins utterances into windows; None leaves each alone
    # The positions of what is yielded and not yet taken.
    ahead: deque[Position] = field(default_factory=deque, init=False)

    def blocks(self, epoch: int) -> int:
        """Returns the number of parts that an epoch is drawn in."""
        return len(self.corpus.blocks(epoch)) if isinstance(self.corpus, StreamCorpus) else 1

    def block_batches(self, epoch: int, block: int) -> list[list[Item]]:
        if isinstance(self.corpus, StreamCorpus):
            # Every process reads all metadata, so that all have the same order; a recording in a
            # shard is read only by the worker that needs it.
            utterances, problems = read_block(self.corpus.blocks(epoch)[block])
            batches = self.in_batches(epoch, utterances, f"{self.seed}-{epoch}-{block}", True)
            # Errors travel with the first batch and are counted with it.
            bad = [Item(epoch, -1, 1.0, problem) for problem in problems]
            return [bad + batches[0], *batches[1:]] if batches else [bad] * bool(bad)
        whole = self.corpus.train_epoch(epoch)
        return self.in_batches(epoch, whole, f"{self.seed}-{epoch}", self.packer is not None)

    def in_batches(
        self, epoch: int, utterances: Sequence[Utterance], seed: str, carried: bool
    ) -> list[list[Item]]:
        """Draws the speed and the batch of each utterance, which its item carries or not."""
        rng = random.Random(seed)
        if self.packer and epoch >= self.packer.settings.after_epochs:
            drawn = self.packer.pack(utterances, self.speeds, rng)
            utterances = [utterance for utterance, _ in drawn]
            speeds = [speed for _, speed in drawn]
        else:
            speeds = [rng.choice(self.speeds) for _ in range(len(utterances))]
        told = cells(utterances, "duration")
        durations = [seconds / speed for (seconds,), speed in zip(told, speeds, strict=True)]
        if self.limits:
            durations = [*map(self.limits.padded_seconds, durations)]
        batches = bucket(durations, self.max_batch_seconds, self.max_batch_size, rng)
        return [
            [*map(Item, repeat(epoch), batch, [speeds[i] for i in batch], rows)]
            for batch in batches
            for rows in [taken(utterances, batch) if carried else repeat(None)]
        ]

    def __iter__(self) -> Iterator[list[Item]]:
        self.ahead.clear()
        walk = self.walk()
        while True:
            dealt = list(islice(walk, self.world))
            self.ahead.append(dealt[-1][1])
            yield dealt[self.rank][0]

    def positions(self) -> Iterator[Position]:
        """Yields the position after each batch that iteration has yielded. Read it in step with the
        batches as they are used: a loader draws batches ahead of that."""
        while self.ahead:
            yield self.ahead.popleft()

    def walk(self) -> Iterator[tuple[list[Item], Position]]:
        """Yields the batches of all processes, each with the position after it."""
        epoch, first, done = self.start.epoch, self.start.block, self.start.batch
        while True:
            for block in range(first, self.blocks(epoch)):
                batches = self.block_batches(epoch, block)
                for number, batch in enumerate(batches[done:], done + 1):
                    yield batch, Position(epoch, number, block)
                done = 0
            epoch, first, done = epoch + 1, 0, 0
