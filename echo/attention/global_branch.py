"""The global branch: ordinary multi-head self-attention, by Whisper's conventions."""

import torch
import torch.nn.functional as F
from torch import nn


class MultiHeadAttention(nn.Module):
    """Projections and attention with a bias on query, value and output but none on the key.

    Parameters bear the names of `transformers`' WhisperAttention, so that its weights fit.
    """

    def __init__(self, dims: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dims % heads:
            raise ValueError(f"{dims} dimensions do not divide into {heads} heads")
        self.heads = heads
        self.head_dim = dims // heads
        self.dropout = dropout
        self.q_proj = nn.Linear(dims, dims)
        self.k_proj = nn.Linear(dims, dims, bias=False)
        self.v_proj = nn.Linear(dims, dims)
        self.out_proj = nn.Linear(dims, dims)

    def project(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, T, D) -> query, key and value, each (B, H, T, d)."""
        return (
            split_heads(self.q_proj(x), self.heads),
            split_heads(self.k_proj(x), self.heads),
            split_heads(self.v_proj(x), self.heads),
        )

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        causal: bool,
    ) -> torch.Tensor:
        """(B, H, Q, d) and (B, H, K, d) -> (B, Q, D), the heads side by side, not yet projected.

        A mask (True or 0 where a key may be seen) wins over `causal`.
        """
        return merge_heads(
            F.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=mask,
                dropout_p=self.dropout if self.training else 0.0,
                is_causal=causal and mask is None and query.shape[2] > 1,
            )
        )


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(B, T, D) -> (B, H, T, d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: torch.Tensor) -> torch.Tensor:
    """(B, H, T, d) -> (B, T, D)."""
    return x.transpose(1, 2).flatten(2)
