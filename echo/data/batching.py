"""Which utterances go into a batch together: buckets of like duration, in a seeded order."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from echo.data.utterance import Corpus


@dataclass(frozen=True)
class Position:
    """Where training stands in its data: so many batches of this epoch are done."""

    epoch: int = 0
    batch: int = 0


@dataclass(frozen=True)
class Item:
    """One training example: an utterance of an epoch, and the speed it is played at."""

    epoch: int
    index: int
    speed: float


def bucket(
    durations: Sequence[float],
    max_batch_seconds: float,
    max_batch_size: int,
    rng: random.Random | None = None,
) -> list[list[int]]:
    """Cuts utterances into batches of at most so many seconds, padding included.

    Neighbours in duration share a batch, so little of it is padding. With `rng`, durations are
    blurred by 5 %, so that an utterance meets others in every epoch, and batches are shuffled.

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
    and skipping to it decodes nothing. With several processes each gets every `world`-th batch.
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
    ) -> None:
        self.corpus = corpus
        self.seed = seed
        self.max_batch_seconds = max_batch_seconds
        self.max_batch_size = max_batch_size
        self.speeds = speeds
        self.start = start
        self.rank = rank
        self.world = world

    def epoch_batches(self, epoch: int) -> list[list[Item]]:
        """This process's batches of one epoch; the last few are dropped where they do not reach
        for every process, and all are repeated where there are too few."""
        rng = random.Random(f"{self.seed}-{epoch}")
        utterances = self.corpus.train_epoch(epoch)
        items = [Item(epoch, i, rng.choice(self.speeds)) for i in range(len(utterances))]
        durations = [u.duration / i.speed for u, i in zip(utterances, items, strict=True)]
        batches = bucket(durations, self.max_batch_seconds, self.max_batch_size, rng)
        even = len(batches) - len(batches) % self.world or self.world
        own = islice(cycle(batches), self.rank, even, self.world)
        return [[items[i] for i in batch] for batch in own]

    def __iter__(self) -> Iterator[list[Item]]:
        epoch, done = self.start.epoch, self.start.batch
        while True:
            yield from self.epoch_batches(epoch)[done:]
            epoch, done = epoch + 1, 0

    def positions(self) -> Iterator[Position]:
        """Where training stands after each batch that iteration yields."""
        epoch, done = self.start.epoch, self.start.batch
        while True:
            for batch in range(done, len(self.epoch_batches(epoch))):
                yield Position(epoch, batch + 1)
            epoch, done = epoch + 1, 0
