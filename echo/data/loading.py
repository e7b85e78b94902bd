"""Loads batches: in workers and without end for training, once and by length for evaluation."""

import gc
import logging
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch.utils.data import DataLoader, Dataset

from echo.config import DataSettings, OnError
from echo.data.augment import WaveformAugment, spec_augment
from echo.data.batch import Batch, Collator
from echo.data.batching import EpochBatches, Item, bucket
from echo.data.corpora.stream import AnyCorpus, StreamCorpus
from echo.data.examples import Example, ExampleReader
from echo.data.packing import Window
from echo.data.prompts import AS_SET, Told
from echo.data.tokenizer import Segment, join_segments
from echo.data.utterance import Utterance
from echo.model.geometry import SAMPLE_RATE
from echo.support.errors import DataError
from echo.support.signals import leave_signals_to_parent

logger = logging.getLogger(__name__)

MAX_EVALUATION_BATCH = 256


@dataclass(eq=False)
class TrainingSet(Dataset):
    """Reads and augments training examples. The draws for one depend on the run's seed, the
    epoch and the utterance alone: not on workers, batches or what was drawn before."""

    corpus: AnyCorpus
    reader: ExampleReader
    settings: DataSettings
    seed: int
    epoch: tuple[int, Sequence[Utterance]] = field(default=(-1, ()), init=False)  # at hand

    def __post_init__(self) -> None:
        self.waveform = WaveformAugment(self.settings.augment)

    def __getitem__(self, item: Item) -> Example | DataError:
        if isinstance(item.row, DataError):
            return item.row
        utterance = self.utterance(item)
        draw = f"{self.seed}-{item.epoch}-{utterance.id}"
        change = partial(self.waveform, rng=random.Random(f"{draw}-samples"))
        try:
            example = self.reader.read(utterance, item.speed, change)
        except DataError as error:
            return error  # not raised: a worker would bury the sentence in its traceback
        rng = random.Random(draw)
        features = spec_augment(example.features, self.settings.augment, rng)
        tokens = example.tokens
        alone = not isinstance(utterance, Window)  # a window has timestamps anyway
        has_room = len(tokens) <= self.reader.limits.max_tokens  # for one token more
        if rng.random() < self.settings.timestamps and alone and utterance.text and has_room:
            alone_in_it = [Segment(0.0, example.seconds, tokens)]
            tokens = join_segments(self.reader.tokenizer, alone_in_it)
        return replace(example, features=features, tokens=tokens)

    def utterance(self, item: Item) -> Utterance:
        if item.row is not None:
            assert isinstance(item.row, Utterance)
            return item.row
        assert not isinstance(self.corpus, StreamCorpus)  # whose items come with theirs
        if self.epoch[0] != item.epoch:
            self.epoch = (item.epoch, self.corpus.train_epoch(item.epoch))
        return self.epoch[1][item.index]


def training_loader(
    corpus: AnyCorpus,
    batches: EpochBatches,
    reader: ExampleReader,
    settings: DataSettings,
    seed: int,
) -> DataLoader:
    return DataLoader(
        TrainingSet(corpus, reader, settings, seed),
        batch_sampler=batches,  # yields Items, not ints
        collate_fn=Collator(reader.tokenizer.pad_token_id),
        num_workers=settings.workers,
        prefetch_factor=4 if settings.workers else None,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=begin_work,
        # Without one of its own the loader would draw from the generator that dropout uses.
        generator=torch.Generator().manual_seed(seed),
    )


def begin_work(worker: int) -> None:
    """Prepares a process that loads batches. What it shares with its parent is never looked through
    for garbage, which would copy it."""
    gc.freeze()
    leave_signals_to_parent(worker)


def evaluation_batches(
    utterances: Sequence[Utterance],
    reader: ExampleReader,
    max_batch_seconds: float,
    on_error: OnError = "raise",
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """Batches of all utterances, longest first, so that what does not fit in memory fails at once;
    with several processes, every `world`-th batch. All of a batch are told the same language and
    task. Utterances that cannot be read are logged and left out where `on_error` is "skip", and a
    DataError where it is "raise"."""
    collate = Collator(reader.tokenizer.pad_token_id)
    durations = [
        reader.limits.padded(round(u.duration * SAMPLE_RATE)) / SAMPLE_RATE for u in utterances
    ]
    batches = []
    for told, members in told_alike(utterances, reader).items():
        own = bucket([durations[i] for i in members], max_batch_seconds, MAX_EVALUATION_BATCH)
        batches += [(told, [members[i] for i in batch]) for batch in reversed(own)]
    batches.sort(key=lambda batch: -max(durations[i] for i in batch[1]))
    for told, indices in batches[rank::world]:
        examples: list[Example | DataError] = []
        for index in indices:
            try:
                examples.append(reader.read(utterances[index]))
            except DataError as error:
                if on_error == "raise":
                    raise
                logger.warning("skipped: %s", error)
        batch = collate(examples)
        if isinstance(batch, Batch):
            yield replace(batch, told=told)


def told_alike(utterances: Sequence[Utterance], reader: ExampleReader) -> dict[Told, list[int]]:
    """Returns the indices of utterances by language and task, which the rows of a batch share."""
    groups: dict[Told, list[int]] = defaultdict(list)
    for index, utterance in enumerate(utterances):
        told = AS_SET
        with suppress(DataError):  # which reading it raises again
            told = reader.prompts.told(utterance)
        groups[told].append(index)
    return groups


def sample(utterances: Sequence[Utterance], count: int, seed: int = 0) -> list[Utterance]:
    """Returns a fixed random choice of `count` utterances, or all where there are no more."""
    if count >= len(utterances):
        return list(utterances)
    return random.Random(seed).sample(list(utterances), count)
