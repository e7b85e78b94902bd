"""Whether steps succeeded; and where a loss or gradient is not finite, which batch and which module
did it."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from echo.checkpoints.run import CheckpointFolder
from echo.data.batching import Position
from echo.data.loading import Batch
from echo.model.hooks import CallRecorder
from echo.model.model import EchoForConditionalGeneration
from echo.support.errors import EchoError
from echo.support.files import whole_file, writing
from echo.train.batches import StepBatches
from echo.train.prepare import not_compiled
from echo.train.state import random_state, restore_random_state
from echo.train.step import Done, Skipped, TrainStep, forward

logger = logging.getLogger(__name__)

NOT_FINITE = "not-finite"  # the folder in a run's
MOST_STEPS = 3  # that a run looks into and keeps


@dataclass(frozen=True)
class Unread:
    """A step whose outcome is not read yet."""

    number: int
    start: Position  # of its batches
    ids: list[str]  # of this process's utterances
    outcome: Done | Skipped


class Outcomes:
    """The outcomes of the steps since they were last read. The first of a run whose numbers are not
    finite are looked into."""

    def __init__(
        self,
        checkpoints: CheckpointFolder,
        step: TrainStep,
        batches: Callable[[Position], list[Batch]],
    ) -> None:
        """`batches` makes this process's batches of a step once more."""
        self.checkpoints = checkpoints
        self.step = step
        self.batches = batches
        self.state = step.state
        self.unread: list[Unread] = []
        self.folder = checkpoints.folder.parent / NOT_FINITE
        self.rank = self.state.processes.rank
        kept = len([*self.folder.glob(f"*-{self.rank}.safetensors")])
        self.looked_into = self.state.processes.highest(kept)  # on which all must agree

    def add(self, number: int, taken: StepBatches, outcome: Done | Skipped) -> None:
        ids = [u.id for b in taken.own for u in b.utterances]
        self.unread.append(Unread(number, taken.start, ids, outcome))

    def read(self) -> None:
        """Adds the outcomes to the progress and the metrics; EchoError after too many bad ones."""
        progress, limit = self.state.progress, self.state.config.train.max_skipped_steps
        unread, self.unread = self.unread, []
        for step in unread:
            why = step.outcome
            if isinstance(why, Done):
                if why.finite:  # waits for the device
                    progress.skipped_in_row = 0
                    self.state.recent.append(why.values)
                    continue
                self.look_into(step, why.values)
                why = Skipped.NUMBERS
            progress.skipped_steps += 1
            progress.skipped_in_row += 1
            ids = ", ".join(step.ids)
            logger.warning("step %d is skipped: %s; utterances: %s", step.number, why.value, ids)
            if progress.skipped_in_row >= limit:
                last = self.checkpoints.last_good() or "none yet"
                with self.state.processes.together():
                    raise EchoError(
                        f"{self.checkpoints.folder.parent}: stopped after {limit} skipped steps in "
                        f"a row, the last being step {step.number}: {why.value}; the last good "
                        f"checkpoint is {last}"
                    )

    def look_into(self, step: Unread, values: Mapping[str, torch.Tensor]) -> None:
        """Names the first module whose output is not finite, with the weights as they are now, and
        keeps the step's batches. Training goes on as if it had not. All processes must call it.
        `values` are the losses and the norm of the gradient, as `Done` has them."""
        if self.looked_into >= MOST_STEPS:
            return
        self.looked_into += 1
        wrong = ", ".join(name for name, value in values.items() if not torch.isfinite(value))
        random = random_state()
        batches = self.batches(step.start)
        model = self.step.state.unwrapped
        place = self.step.within_memory(lambda: first_not_finite(model, batches))
        restore_random_state(random)
        path = self.folder / f"step-{step.number:06}-{self.rank}.safetensors"
        logger.warning(
            "step %d: %s: not finite; the first output that is not finite is that of %s",
            step.number,
            wrong,
            place or "no module, where the batch is heard again without dropout",
        )
        try:
            save_batches(batches, path)
            logger.warning("step %d: its batch is kept in %s", step.number, path)
        except EchoError as error:  # a full disk, which the next checkpoint reports
            logger.warning("step %d: its batch is not kept: %s", step.number, error)


def first_not_finite(model: EchoForConditionalGeneration, batches: Sequence[Batch]) -> str | None:
    """Returns what is first not finite where a model that is trained hears these batches, without
    dropout: the features, or the output of a module, by its name; None if all are finite."""
    modules = {name: module for name, module in model.named_modules() if name}
    found = []
    recorder = CallRecorder(modules, lambda _, __, output: is_finite(output), training_only=False)
    model.eval()
    try:
        with recorder, torch.no_grad(), not_compiled():
            for batch in batches:
                recorder.forget()
                forward(model, batch)
                if not is_finite(batch.input_features):
                    found.append("the feature extractor")
                found += [name for name, finite in recorder.kept.items() if not finite]
    finally:
        model.train()
    return found[0] if found else None


def is_finite(output: Any) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors_in(output))


def tensors_in(output: Any) -> Iterator[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, tuple | list):
        for part in output:
            yield from tensors_in(part)


def save_batches(batches: Sequence[Batch], path: Path) -> None:
    """Writes what the model was given: features, masks, labels, and the utterances' ids as JSON in
    the metadata, each with its batch's number."""
    tensors: dict[str, torch.Tensor] = {}
    ids: dict[str, str] = {}
    for index, batch in enumerate(batches):
        for name in ("input_features", "attention_mask", "decoder_input_ids", "labels"):
            tensors[f"{index}.{name}"] = getattr(batch, name).contiguous()
        ids[f"{index}.ids"] = json.dumps([utterance.id for utterance in batch.utterances])
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        save_file(tensors, temporary, metadata=ids)
