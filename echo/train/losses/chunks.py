"""Losses of the decoder's logits, a few tokens at a time. The logits of a Whisper's 51,864 tokens,
and their gradient, would take more memory than the rest of a step."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable

LOGITS = 2**22  # at once: 80 tokens of a Whisper, 17 MB; larger ones are slower on a CPU

# From the logits (N, V) of some of a batch's target tokens, their labels (N,) and their places
# among the flattened tokens of the batch to a loss, summed over them.
TokenSum = Callable[[torch.Tensor, torch.Tensor, slice], torch.Tensor]


def weighted_sums(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    sums: Sequence[TokenSum],
    factors: Sequence[float],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the sum of losses times their factors, and each loss (losses,), which has no
    gradient.

    Args:
        hidden: (tokens, D), the decoder's output.
        weight: (V, D), that of the output projection.
        labels: (tokens,), IGNORED at padding.
    """
    return WeightedSums.apply(hidden, weight, labels, sums, factors)


class WeightedSums(torch.autograd.Function):
    """Computes the logits of a few tokens at a time, their losses and at once the gradients, so
    that nothing is computed again for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        labels: torch.Tensor,
        sums: Sequence[TokenSum],
        factors: Sequence[float],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        of_hidden, of_weight = ctx.needs_input_grad[:2]
        ctx.gradients = [
            torch.zeros_like(hidden) if of_hidden else None,
            torch.zeros_like(weight) if of_weight else None,
        ]
        device = hidden.device.type
        is_mixed = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if is_mixed else hidden.dtype
        values = torch.zeros(len(sums), device=hidden.device)
        scale = torch.tensor(factors).to(hidden.device, non_blocking=True)
        with torch.autocast(device, enabled=False):  # which would cast the weight for each chunk
            matrix = weight.to(dtype)
            for start in range(0, len(hidden), size := max(1, LOGITS // len(weight))):
                part = slice(start, start + size)
                some = hidden[part].to(dtype)
                logits = (some @ matrix.T).requires_grad_()
                with torch.enable_grad():
                    losses = torch.stack([each(logits, labels[part], part) for each in sums])
                    gradient = torch.autograd.grad((losses * scale).sum(), logits)[0]
                values += losses.detach()
                if of_hidden:
                    ctx.gradients[0][part] = gradient @ matrix
                if of_weight and is_mixed:
                    ctx.gradients[1] += gradient.T @ some
                elif of_weight:
                    ctx.gradients[1].addmm_(gradient.T, some)
        ctx.mark_non_differentiable(values)
        return (values * scale).sum(), values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: torch.Tensor, _: torch.Tensor) -> tuple[Any, ...]:
        gradients, ctx.gradients = ctx.gradients, []
        return (
            *(each if each is None else each.mul_(factor) for each in gradients),
            None,
            None,
            None,
        )
