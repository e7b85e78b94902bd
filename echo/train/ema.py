"""The exponential moving average of the weights over the steps of a run."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """The exponential moving average of the trained weights.

    Early steps count for more than `decay` says, so that the average soon forgets the weights that
    training began with.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.values = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self, step: int, taken: torch.Tensor) -> None:
        """Updates the average with the present weights.

        Args:
            step: how many steps have been taken.
            taken: a boolean on the device; if false, the average stays as it is.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        present = [
            torch.where(taken, p.detach(), value)
            for p, value in zip(self.parameters, self.values, strict=True)
        ]
        get_ema_multi_avg_fn(decay)(self.values, present, step)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the model's weights are the averages."""
        trained = [p.data for p in self.parameters]
        for parameter, value in zip(self.parameters, self.values, strict=True):
            parameter.data = value
        try:
            yield
        finally:
            for parameter, value in zip(self.parameters, trained, strict=True):
                parameter.data = value
