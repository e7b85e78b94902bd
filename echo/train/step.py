"""One optimiser step."""

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import nn
from transformers.modeling_outputs import Seq2SeqModelOutput

from echo.data.batch import IGNORED, Batch
from echo.model.geometry import FRAMES_PER_SECOND
from echo.model.model import EchoForConditionalGeneration, EchoOutput
from echo.support.errors import EchoError
from echo.train.losses.base import Loss, Setup, TokenLoss
from echo.train.losses.chunks import weighted_sums
from echo.train.losses.registry import build_losses, reads_decoder
from echo.train.sharding import whole
from echo.train.state import TrainState

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Done:
    """The step has its gradients. The device updates the weights with them if all numbers are
    finite, and the host reads later whether they were: reading waits for the device."""

    # "loss" (the decoder's and CTC's, weighted) and each loss by its name, per target token, and
    # "grad_norm" before clipping: scalars on the device.
    values: dict[str, torch.Tensor]
    finite: torch.Tensor  # a boolean on the device: whether the weights are updated


class Skipped(Enum):
    """Why a step has left the weights as they were."""

    MEMORY = "its batches do not fit into memory"
    NUMBERS = "its loss or gradient is not a finite number"


class TrainStep:
    """Takes one optimiser step at each call."""

    def __init__(
        self, state: TrainState, tokenizer: Any, start: EchoForConditionalGeneration | None = None
    ) -> None:
        """`start` is the model before training, for `loss.anchor_kl`."""
        self.state = state
        self.config = state.config
        self.accelerator = state.accelerator
        self.losses = build_losses(
            Setup(self.config, state.unwrapped, tokenizer, self.accelerator, start)
        )
        # Those of which the logits are not kept: none if another needs them, or if an adapter is
        # part of the projection.
        is_plain = type(state.unwrapped.proj_out) is nn.Linear
        keeps_logits = any(loss.reads_logits for loss in self.losses)
        self.by_token = [
            loss
            for loss in self.losses
            if isinstance(loss, TokenLoss) and loss.weight > 0 and is_plain and not keeps_logits
        ]
        self.encoder_only = not reads_decoder(self.config)

    def __call__(self, batches: list[Batch]) -> Done | Skipped:
        """Accumulates the gradients of all batches, normalised by all of their tokens, and updates
        the weights with them, unless memory runs out, which is an EchoError where several processes
        train, or a number is not finite. A skipped step counts as a step of the run and of the
        schedule. It does not wait for the device if the optimiser is a fused one."""
        # Where the batches do not fit into memory, in halves.
        values = self.fitting(batches) or self.fitting([h for b in batches for h in b.halves()])
        state = self.state
        state.progress.step += 1
        outcome: Done | Skipped = Skipped.MEMORY
        if values is not None:
            outcome = Done(values, torch.isfinite(torch.stack([*values.values()])).all())
            self.update(outcome.finite)
        state.schedule.step()
        state.optimiser.zero_grad()
        return outcome

    def update(self, finite: torch.Tensor) -> None:
        """Updates the weights and their average, if `finite`, which stays on the device."""
        state = self.state
        optimiser = state.optimiser.optimizer
        if optimiser.defaults.get("fused"):
            # It skips its step by this attribute, as `torch.amp.GradScaler` sets it.
            optimiser.found_inf = (~finite).float()
        elif not finite:  # waits for the device
            return
        state.optimiser.step()
        if state.average:
            state.average.update(state.progress.step, finite)

    def fitting(self, batches: list[Batch]) -> dict[str, torch.Tensor] | None:
        """As `accumulate`; None, without gradients, where memory ran out. It is an EchoError where
        other processes wait for this one's gradients."""
        values = self.within_memory(partial(self.accumulate, batches))
        if values is not None:
            return values
        seconds = max(b.attention_mask.numel() for b in batches) / FRAMES_PER_SECOND
        problem = (
            f"step {self.state.progress.step + 1} ran out of memory on {seconds:.0f} s of audio; "
            "choose a smaller data.max_batch_seconds (now "
            f"{self.config.data.max_batch_seconds:g})"
        )
        if self.accelerator.num_processes > 1:
            raise EchoError(problem)
        logger.warning(problem)
        return None

    def within_memory(self, action: Callable[[], Result]) -> Result | None:
        """Returns what the action does; None, without gradients, where memory ran out."""
        try:
            return action()
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
        # Only now is the error gone, and with it what its traceback kept in memory.
        self.state.optimiser.zero_grad()
        clear_device_cache(garbage_collection=True)
        return None

    def accumulate(self, batches: list[Batch]) -> dict[str, torch.Tensor]:
        """Adds up the batches' gradients and clips them; returns the values of `Done`."""
        tokens = self.accelerator.reduce(
            torch.stack([(b.labels != IGNORED).sum() for b in batches]).sum(), "sum"
        )
        model = self.state.model
        names = ["loss", *(loss.name for loss in self.losses)]
        losses = torch.zeros(len(names), device=self.accelerator.device)
        for index, batch in enumerate(batches):
            last = index == len(batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(model):
                losses += self.backward(batch, tokens)
        norm = whole(
            self.accelerator.clip_grad_norm_(model.parameters(), self.config.train.max_grad_norm)
        )
        means = self.accelerator.reduce(losses, "sum") / tokens
        return {**dict(zip(names, means, strict=True)), "grad_norm": norm}

    def backward(self, batch: Batch, tokens: torch.Tensor) -> torch.Tensor:
        """Adds one batch's gradients, where the step has so many target `tokens` in all batches of
        all processes. Returns (1 + losses,): the metric "loss", then each of `self.losses`, summed
        over the batch."""
        try:
            objective, values = self.objective(batch)
            joint = [
                loss.weight * value
                for loss, value in zip(self.losses, values, strict=True)
                if loss.is_joint
            ]
            sums = torch.stack([sum(joint[1:], start=joint[0]), *values]).detach()
            if not batch.utterances:  # silence, with which this process takes part in others' step
                objective, sums = objective * 0, sums * 0
            # DDP and FSDP average gradients over the processes; the sum is wanted.
            self.accelerator.backward(objective * (self.accelerator.num_processes / tokens))
            return sums
        finally:  # also where memory ran out, which the graph would go on to take
            for loss in self.losses:
                loss.forget()

    def objective(self, batch: Batch) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Returns what is minimised, and each of `self.losses`, summed over a batch."""
        score = partial(self.score, batch) if self.by_token else None
        output = forward(self.state.model, batch, score=score, encoder_only=self.encoder_only)
        found: Any = output.scores if score else (0, ())
        objective, scored = found
        values: dict[Loss, torch.Tensor] = dict(zip(self.by_token, scored, strict=True))
        for loss in self.losses:
            if loss not in values:
                values[loss] = loss(output, batch)
                objective = objective + loss.weight * values[loss]
        return objective, [values[loss] for loss in self.losses]

    def score(
        self, batch: Batch, states: Seq2SeqModelOutput, projection: nn.Linear
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the weighted sum of the losses `by_token`, and each."""
        assert states.last_hidden_state is not None
        return weighted_sums(
            states.last_hidden_state.flatten(0, 1),
            projection.weight,
            batch.labels.flatten(),
            [loss.of_batch(batch, states.encoder_last_hidden_state) for loss in self.by_token],
            [loss.weight for loss in self.by_token],
        )


def forward(model: Any, batch: Batch, **options: Any) -> EchoOutput:
    """Returns what a model, in its wrapper or without, makes of a training batch."""
    return model(
        batch.input_features,
        attention_mask=batch.attention_mask,
        decoder_input_ids=batch.decoder_input_ids,
        # In silence no token is real; elsewhere padding comes last, where none looks at it.
        decoder_attention_mask=None
        if batch.utterances
        else torch.zeros_like(batch.decoder_input_ids),
        use_cache=False,
        **options,
    )
