"""A loss that keeps the spans of focused blocks short."""

from functools import partial
from typing import Any

import torch
from torch import nn

from echo.attention.base import FocusedAttention
from echo.data.batch import IGNORED


class SpanPenalty:
    """Remembers the spans of the last training batch."""

    def __init__(self, model: nn.Module) -> None:
        self.spans: dict[str, torch.Tensor] = {}  # by block; see `FocusedAttention.forward`
        self.causal: dict[str, bool] = {}
        for name, block in model.named_modules():
            if isinstance(block, FocusedAttention):
                self.causal[name] = block.causal
                block.register_forward_hook(partial(self.remember, name))

    @torch.compiler.disable  # torch cannot return one tensor to several hooks of a compiled layer
    def remember(self, name: str, block: nn.Module, args: Any, output: Any) -> None:
        if block.training:
            self.spans[name] = output[1]

    def __call__(self, labels: torch.Tensor) -> torch.Tensor:
        """The sum over target tokens of their utterance's mean span scale: the mean over blocks
        and heads, and in the decoder over the utterance's tokens. So it does not matter which
        utterances share a batch.

        Args:
            labels: (B, tokens), IGNORED at padding.

        Returns:
            A scalar, summed over the batch.
        """
        valid = labels != IGNORED
        tokens = valid.sum(1)
        means = []
        for name, span in self.spans.items():
            mean = span.float().mean(1)
            if self.causal[name]:
                means.append((mean * valid).sum(1))
            else:
                means.append(mean[:, 0] * tokens)
        if not means:  # all layers were dropped
            return torch.zeros((), device=labels.device)
        return torch.stack(means).mean(0).sum()

    def forget(self) -> None:
        """Frees the graph of the batch."""
        self.spans.clear()
