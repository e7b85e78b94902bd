"""The memory that training a contender takes."""

import logging
from pathlib import Path

import torch

from echo.checkpoints.run import CheckpointFolder
from echo.config import load_run_config
from echo.data.corpora.stream import AnyCorpus
from echo.support.errors import DataError
from echo.train.find_batch import Probe, sample_corpus
from echo.train.run import trainer_at
from echo.train.state import TrainState

logger = logging.getLogger(__name__)


def training_memory(run: Path, corpus: AnyCorpus) -> int | None:
    """Returns the bytes that training takes at its peak: weights, optimiser state, gradients and
    activations. None if a batch does not fit into memory, or the data cannot be read any more.

    Measured by steps on the costliest batches of the first epoch (the most audio, the longest
    utterance, the most text), from the run's last checkpoint, because contenders that train in turn
    share one process. Nothing is written.
    """
    config = load_run_config(run)
    try:
        checkpoint = CheckpointFolder(run).load()
        assert checkpoint is not None, "a contender that was trained"
        trainer = trainer_at(*checkpoint, config, run, sample_corpus(corpus))
        probe = Probe(trainer)
        batches = probe.costliest(config.data.max_batch_seconds)
        added = [probe.step_memory(batch) for batch in batches]
    except DataError as error:
        logger.warning("%s: memory is not measured: %s", run, error)
        return None
    found = [value for value in added if value is not None]
    return resident(trainer.state) + max(found) if len(found) == len(added) else None


def resident(state: TrainState) -> int:
    """Bytes that stay in use from step to step."""
    tensors = [*state.model.parameters(), *state.model.buffers()]
    for values in state.optimiser.state.values():
        tensors += [value for value in values.values() if isinstance(value, torch.Tensor)]
    if state.average:
        tensors += state.average.values
    return sum(tensor.nbytes for tensor in tensors)
