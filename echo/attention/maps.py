"""Attention maps of a block, for plots and summaries. The model's output does not need them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from echo.attention.base import FocusedAttention
from echo.attention.global_branch import attention_weights, split_heads


@dataclass(frozen=True)
class AttentionMaps:
    """Attention maps of a sequence of T positions. `local`, `span` and `temperature` are None in a
    plain block."""

    overall: torch.Tensor  # (B, H, T, K): the global branch's weights; K < T if keys are pooled
    local: torch.Tensor | None = None  # (B, H, T, T)
    span: torch.Tensor | None = None  # (B, 1 or H, 1), or (B, 1 or H, T) in the decoder
    temperature: torch.Tensor | None = None  # with the span's shape, or (1, H, 1)


@torch.no_grad()
def attention_maps(
    block: nn.Module, x: torch.Tensor, mask: torch.Tensor | None = None, causal: bool = False
) -> AttentionMaps:
    """Computes the attention weights of a self-attention block, without dropout.

    Args:
        block: a focused block, or Whisper's.
        x: the block's input, (B, T, D).
        mask: the `attention_mask` of `FocusedAttention.forward`.
        causal: whether a plain block is in a decoder. Ignored for a focused block.
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
    span = branches.window.span
    return AttentionMaps(overall, block.local_weights(branches), span, block.temperature(span))


def plain_weights(
    block: Any, x: torch.Tensor, mask: torch.Tensor | None, causal: bool
) -> torch.Tensor:
    """Computes the attention weights of `transformers`' WhisperAttention."""
    query, key = (split_heads(p(x), block.num_heads) for p in (block.q_proj, block.k_proj))
    return attention_weights(query * block.scaling, key, mask, causal)


def entropy(weights: torch.Tensor) -> torch.Tensor:
    """Computes the entropy of attention weights, in nats: (..., K) -> (...)."""
    return torch.special.entr(weights.float()).sum(-1)
