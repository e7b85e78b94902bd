"""How much memory a training step takes, and the largest batches that fit."""

import logging
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
from accelerate.utils.memory import clear_device_cache

from echo.config import RunConfig
from echo.data.batch import Batch, Collator
from echo.data.batching import Item
from echo.data.build import build_corpus
from echo.data.columns import cells
from echo.data.corpora.stream import AnyCorpus, StreamCorpus
from echo.data.loading import TrainingSet
from echo.data.utterance import Corpus, FixedCorpus
from echo.support.errors import EchoError
from echo.support.memory import PeakMemory
from echo.train.batches import training_sampler
from echo.train.check import check_run
from echo.train.loop import Trainer
from echo.train.run import new_trainer

logger = logging.getLogger(__name__)

MARGIN = 0.9  # of what fits: other batches have other shapes, and memory fragments
CLOSE_ENOUGH = 1.05
SYSTEM_SHARE = 0.8  # of the free memory, which batches on a CPU may take


def find_max_batch_seconds(config: RunConfig) -> float:
    """The largest `data.max_batch_seconds` with which the costliest batches of the first epoch fit
    into memory, less a margin. Nothing is written. ConfigError if the settings contradict each
    other; EchoError if not even the longest utterance alone fits."""
    check_run(config)
    corpus = sample_corpus(build_corpus(config.data, config.seed))
    with tempfile.TemporaryDirectory() as run:
        trainer = new_trainer(config, Path(run), corpus)
        return search(Probe(trainer))


def sample_corpus(corpus: AnyCorpus) -> Corpus:
    """A run's corpus; of a stream its first block."""
    if isinstance(corpus, StreamCorpus):
        return FixedCorpus(corpus.known_utterances(), corpus.eval)
    return corpus


def search(probe: "Probe") -> float:
    """Doubles the seconds until they do not fit, or until batches grow no more, because all
    utterances fit into one or `data.max_batch_size` is reached; then narrows the bound down by
    bisection."""
    fitting = probe.longest
    if not probe.fits(fitting):
        raise EchoError(f"not even a batch of one utterance of {fitting:.1f} s fits into memory")
    while probe.fits(2 * fitting):
        fitting *= 2
        if probe.batches(2 * fitting) == probe.batches(fitting):
            return fitting
    failing = 2 * fitting
    while failing / fitting > CLOSE_ENOUGH:
        middle = (failing + fitting) / 2
        if probe.fits(middle):
            fitting = middle
        else:
            failing = middle
    return max(probe.longest, MARGIN * fitting)


class Probe:
    """Tries batches out on a trainer of a `sample_corpus`, which is of no use afterwards."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        trainer.state.model.train()  # loaded models evaluate
        self.data = trainer.config.data
        self.examples = TrainingSet(trainer.corpus, trainer.reader, self.data, trainer.config.seed)
        assert not isinstance(trainer.corpus, StreamCorpus)
        self.corpus = trainer.corpus
        self.limits = trainer.reader.limits
        alone = max(each for (each,) in cells(self.corpus.train_epoch(0), "duration")) / min(
            self.data.augment.speed
        )
        window = self.data.pack.seconds if self.data.pack else 0.0
        self.longest = self.limits.padded_seconds(max(alone, window))
        self.bytes_per_second = 0.0  # of audio, on a CPU

    def batches(self, seconds: float) -> list[list[Item]]:
        data = replace(self.data, max_batch_seconds=seconds)
        sampler = training_sampler(self.trainer.config.seed, data, self.corpus, self.trainer.reader)
        return sampler.block_batches(0, 0)

    def costliest(self, seconds: float) -> list[list[Item]]:
        """The batches with the most audio, with the longest utterance, and with the most text."""
        costs: list[Callable[[list[Item]], float]] = [
            self.padded_seconds,
            lambda batch: self.padded_seconds(batch) / len(batch),
            lambda batch: len(batch) * max(len(self.examples.utterance(i).text) for i in batch),
        ]
        batches = self.batches(seconds)
        return [max(batches, key=cost) for cost in costs]

    def padded_seconds(self, batch: list[Item]) -> float:
        longest = max(self.examples.utterance(i).duration / i.speed for i in batch)
        return len(batch) * self.limits.padded_seconds(longest)

    def fits(self, seconds: float) -> bool:
        fitting = all(self.trains_on(batch) for batch in self.costliest(seconds))
        logger.info("%.0f s: %s", seconds, "fits" if fitting else "does not fit")
        return fitting

    def trains_on(self, items: list[Item]) -> bool:
        """Whether an optimiser step on these utterances fits into memory."""
        seconds = self.padded_seconds(items)
        # On a CPU, the system kills a process that asks for too much memory.
        if self.bytes_per_second * seconds > SYSTEM_SHARE * psutil.virtual_memory().available:
            return False
        added = self.step_memory(items)
        if added is not None and self.trainer.accelerator.device.type == "cpu":
            self.bytes_per_second = max(self.bytes_per_second, added / seconds)
        return added is not None

    def step_memory(self, items: list[Item]) -> int | None:
        """Bytes that an optimiser step adds at its peak to those in use; None if it does not
        fit."""
        device = self.trainer.accelerator.device
        batch = Collator(self.trainer.reader.tokenizer.pad_token_id)(
            [self.examples[item] for item in items]
        )
        if not isinstance(batch, Batch):
            raise batch[0]

        def train() -> int:
            with PeakMemory(device) as memory:
                self.trainer.step.accumulate([batch.to(device)])
                self.trainer.state.optimiser.step()
            return memory.added

        added = self.trainer.step.within_memory(train)
        self.trainer.state.optimiser.zero_grad()
        clear_device_cache(garbage_collection=True)
        return added
