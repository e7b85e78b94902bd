"""What every loss is: a name, a weight, and a sum over a batch's target tokens."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from accelerate import Accelerator

from echo.config import RunConfig
from echo.data.loading import Batch
from echo.model.hooks import CallRecorder
from echo.model.model import EchoForConditionalGeneration, EchoOutput
from echo.train.losses.chunks import TokenSum


@dataclass(frozen=True)
class Setup:
    """What a run's losses are made from."""

    config: RunConfig
    model: EchoForConditionalGeneration  # that is trained, without wrappers
    tokenizer: Any
    accelerator: Accelerator
    start: EchoForConditionalGeneration | None = None  # a copy of the model before training


class Loss(ABC):
    """One term of what training minimises. Terms are sums, so that a step of several batches can be
    normalised by all of its tokens at once."""

    name: ClassVar[str]  # of its metric, the mean per target token, not weighted
    setting: ClassVar[str]  # of `LossSettings`, its weight
    # Whether the metric `loss` includes it. Such a term is always computed; the others regularise,
    # and are only where their weight is above 0.
    is_joint: ClassVar[bool] = False
    calls: CallRecorder[Any, torch.Tensor] | None = None  # what it keeps of the last batch
    reads_decoder: ClassVar[bool] = True  # whether it needs the decoder to have run
    reads_logits: ClassVar[bool] = True  # whether it needs the logits of all tokens at once
    is_for_fsdp: ClassVar[bool] = True  # whether it can be computed where FSDP shards the model

    def __init__(self, setup: Setup) -> None:
        self.weight = self.weight_in(setup.config)

    @classmethod
    def weight_in(cls, config: RunConfig) -> float:
        """Returns the term's weight in a run."""
        return getattr(config.loss, cls.setting)

    @classmethod
    def problem(cls, config: RunConfig) -> str | None:
        """Returns why a run with a weight above 0 cannot have this loss; None if it can."""
        return None

    @abstractmethod
    def __call__(self, output: EchoOutput, batch: Batch) -> torch.Tensor:
        """Returns the loss, a scalar, summed over the target tokens of a batch with this output."""

    def forget(self) -> None:
        """Frees what the loss keeps of the last batch, and with it the batch's graph."""
        if self.calls is not None:
            self.calls.forget()


class TokenLoss(Loss):
    """A loss that each target token has by its own logits, so that the logits of a few tokens are
    computed at a time."""

    reads_logits = False

    @abstractmethod
    def of_batch(self, batch: Batch, encoded: torch.Tensor | None) -> TokenSum:
        """Returns what sums up the loss over some of a batch's tokens; `encoded` is the output of
        the trained model's encoder."""

    def __call__(self, output: EchoOutput, batch: Batch) -> torch.Tensor:
        assert output.logits is not None
        summed = self.of_batch(batch, output.encoder_last_hidden_state)
        # Flattened: with the vocabulary as the second of three dimensions it takes four times as
        # long.
        return summed(output.logits.flatten(0, 1), batch.labels.flatten(), slice(None))
