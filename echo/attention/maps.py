"""What a block attends to, to be drawn or summed up; nothing of it is needed for the output."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from echo.attention.base import FocusedAttention
from echo.attention.global_branch import attention_weights, split_heads
from echo.attention.local import dense_band


@dataclass(frozen=True)
class AttentionMaps:
    """Of a sequence of T positions; `local`, `span` and `temperature` are None in a plain block."""

    overall: torch.Tensor  # (B, H, T, K): the global branch's weights; K < T if keys are pooled
    local: torch.Tensor | None = None  # (B, H, T, T)
    span: torch.Tensor | None = None  # (B, 1 or H, 1), in the decoder with a last dimension of T
    temperature: torch.Tensor | None = None  # as the span, or (1, H, 1)


@torch.no_grad()
def attention_maps(
    block: nn.Module, x: torch.Tensor, mask: torch.Tensor | None = None, causal: bool = False
) -> AttentionMaps:
    """The weights that a self-attention block gives to each position, without dropout.

    Args:
        block: a focused one, or Whisper's.
        x: what the block is given, (B, T, D).
        mask: as `FocusedAttention.forward`'s `attention_mask`.
        causal: whether a plain block is a decoder's.
    """
    if not isinstance(block, FocusedAttention):
        return AttentionMaps(plain_weights(block, x, mask, causal))
    training = block.training
    block.eval()
    try:
        branches = block.branches(x, mask)
    finally:
        block.train(training)
    overall = block.global_branch.weights(
        branches.global_query, branches.global_key, mask, block.causal
    )
    band = dense_band(x.shape[1], branches.local_key, branches.local_key, branches.window)
    span = branches.window.span
    return AttentionMaps(overall, band.weights(branches.local_query), span, block.temperature(span))


def plain_weights(
    block: Any, x: torch.Tensor, mask: torch.Tensor | None, causal: bool
) -> torch.Tensor:
    """Those of `transformers`' WhisperAttention."""
    query, key = (split_heads(p(x), block.num_heads) for p in (block.q_proj, block.k_proj))
    return attention_weights(query * block.scaling, key, mask, causal)


def entropy(weights: torch.Tensor) -> torch.Tensor:
    """(..., K) -> (...): the entropy of attention weights, in nats."""
    return torch.special.entr(weights.float()).sum(-1)
