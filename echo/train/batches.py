"""The batches of each optimiser step, agreed on by all processes."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import torch

from echo.config import DataSettings, RunConfig
from echo.data.batch import IGNORED, Batch
from echo.data.batching import EpochBatches, Position
from echo.data.corpora.stream import AnyCorpus
from echo.data.examples import ExampleReader
from echo.data.loading import training_loader
from echo.data.packing import Packer
from echo.support.distributed import Processes
from echo.support.errors import DataError
from echo.support.signals import signals_held

logger = logging.getLogger(__name__)

SILENT_FRAMES = 16
BEGINNING = Position()


@dataclass(frozen=True)
class StepBatches:
    """The batches of one step: `accumulation` for each process."""

    own: list[Batch]  # this process's; one whose recordings cannot be read has no utterances
    utterances: int  # in the batches of all processes, each of a window counted
    skipped: int  # utterances left out of them, and of batches before that made no step
    start: Position  # of them
    position: Position  # after them


@dataclass(frozen=True)
class TrainingBatches:
    """What the batches of a run are made of, and who shares them."""

    config: RunConfig
    corpus: AnyCorpus
    reader: ExampleReader
    processes: Processes
    device: torch.device

    def steps(self, start: Position) -> Iterator[StepBatches]:
        """Yields the batches of each step from a position on, on the device, without end. Batches
        without any token make no step. DataError if a recording cannot be read and `on_error` is
        "raise", or if none of an epoch can be read."""
        processes = self.processes
        own = self.own(start, self.config.data)
        fruitful, lost, position = start.epoch, 0, start
        while True:
            before, taken = position, list(islice(own, self.config.train.accumulation))
            batches = [batch for batch, _ in taken]
            position = taken[-1][1]
            problems = [problem for batch in batches for problem in batch.skipped]
            tokens, utterances, skipped = processes.sum(
                sum(int((batch.labels != IGNORED).sum()) for batch in batches),
                sum(batch.size for batch in batches),
                len(problems),
            )
            lost += skipped
            if skipped:
                if self.config.data.on_error == "raise":
                    with processes.together():
                        if problems:
                            raise problems[0]
                for problem in (p for found in processes.gather(problems) for p in found):
                    logger.warning("skipped: %s", problem)
            if tokens:
                fruitful = position.epoch
                own_here = [batch.to(self.device) for batch in batches]
                yield StepBatches(own_here, utterances, lost, before, position)
                lost = 0
            elif position.epoch > fruitful + 1:
                with processes.together():
                    raise DataError(f"no recording of epoch {position.epoch - 1} could be read")

    def again(self, start: Position) -> list[Batch]:
        """Returns this process's batches of the step that begins at a position, made once more
        here."""
        own = self.own(start, replace(self.config.data, workers=0))
        return [b.to(self.device) for b, _ in islice(own, self.config.train.accumulation)]

    def own(self, start: Position, data: DataSettings) -> Iterator[tuple[Batch, Position]]:
        """Yields this process's batches, each with the position after all have taken theirs."""
        rank, world = self.processes.rank, self.processes.world
        seed, corpus, reader = self.config.seed, self.corpus, self.reader
        sampler = training_sampler(seed, data, corpus, reader, start, rank, world)
        loader = training_loader(corpus, sampler, reader, data, seed)
        with signals_held():  # while workers start
            batches = iter(loader)
        for batch, position in zip(batches, sampler.positions(), strict=False):
            if not isinstance(batch, Batch):
                batch = silence(reader, batch)
            yield batch, position


def training_sampler(
    seed: int,
    data: DataSettings,
    corpus: AnyCorpus,
    reader: ExampleReader,
    start: Position = BEGINNING,
    rank: int = 0,
    world: int = 1,
) -> EpochBatches:
    """What a run's batches are made of, from a position on; see `EpochBatches`."""
    packer = Packer(data.pack, reader.tokenizer, reader.limits.max_tokens) if data.pack else None
    return EpochBatches(
        corpus,
        seed,
        data.max_batch_seconds,
        data.max_batch_size,
        data.augment.speed,
        start,
        rank,
        world,
        reader.limits,
        packer,
    )


def silence(reader: ExampleReader, skipped: list[DataError]) -> Batch:
    """A batch of padding alone, with which a process takes part in the others' step."""
    one_token = torch.full((1, 1), reader.tokenizer.pad_token_id)
    return Batch(
        utterances=[],
        input_features=torch.zeros(1, reader.limits.n_mels, SILENT_FRAMES),
        attention_mask=torch.zeros(1, SILENT_FRAMES, dtype=torch.long),
        decoder_input_ids=one_token,
        labels=torch.full_like(one_token, IGNORED),
        skipped=skipped,
    )
