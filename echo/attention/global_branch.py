"""The global branch: ordinary multi-head self-attention, by Whisper's conventions."""

import torch
import torch.nn.functional as F
from torch import nn

from echo.attention.pooling import pool_frames
from echo.attention.rotary import rotate


class MultiHeadAttention(nn.Module):
    """Projections and attention with a bias on query, value and output but none on the key.

    Parameters bear the names of `transformers`' WhisperAttention, so that its weights fit. With a
    `stride` keys and values are averages over so many frames, and over more where there would be
    more than `max_keys` of them; with a `rotary_base`, queries and keys have rotary positions.

    Raises:
        ValueError: the dimensions do not divide into the heads, or the heads' into halves.
    """

    def __init__(
        self,
        dims: int,
        heads: int,
        dropout: float = 0.0,
        stride: int = 1,
        max_keys: int = 1,
        rotary_base: float | None = None,
    ) -> None:
        super().__init__()
        if dims % heads:
            raise ValueError(f"{dims} dimensions do not divide into {heads} heads")
        if rotary_base is not None and dims // heads % 2:
            raise ValueError(
                f"attention rotary_base needs heads of even width, not {dims // heads}"
            )
        self.heads = heads
        self.head_dim = dims // heads
        self.dropout = dropout
        self.stride = stride
        self.max_keys = max_keys
        self.rotary_base = rotary_base
        self.q_proj = nn.Linear(dims, dims)
        self.k_proj = nn.Linear(dims, dims, bias=False)
        self.v_proj = nn.Linear(dims, dims)
        self.out_proj = nn.Linear(dims, dims)

    def project(
        self, x: torch.Tensor, start: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, T, D) -> query, key and value, each (B, H, T, d); x begins at position `start`."""
        query = split_heads(self.q_proj(x), self.heads)
        key = split_heads(self.k_proj(x), self.heads)
        if self.rotary_base is not None:
            query, key = (rotate(part, self.rotary_base, start) for part in (query, key))
        return query, key, split_heads(self.v_proj(x), self.heads)

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        causal: bool,
    ) -> torch.Tensor:
        """(B, H, Q, d) and (B, H, K, d) -> (B, Q, D), the heads side by side, not yet projected.

        A mask (0 where a key may be seen) wins over `causal`.
        """
        if self.stride > 1:
            both, mask = self.pool(torch.cat([key, value], dim=-1), mask)
            key, value = both.chunk(2, dim=-1)
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

    def weights(
        self, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, causal: bool
    ) -> torch.Tensor:
        """What `attend` weighs the values with: (B, H, Q, K), K counting averages if there is a
        stride."""
        if self.stride > 1:
            key, mask = self.pool(key, mask)
        scores = query @ key.transpose(-1, -2) * self.head_dim**-0.5
        if mask is not None:
            scores = scores + mask
        elif causal:
            Q, K = scores.shape[-2:]
            ahead = torch.ones(Q, K, dtype=torch.bool, device=key.device).triu(K - Q + 1)
            scores = scores.masked_fill(ahead, -torch.inf)
        return scores.softmax(-1)

    def pool(self, x: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, H, T, n) and an encoder's mask (B, 1, 1, T) -> averages and their mask."""
        if mask is None:
            lengths = torch.full((len(x),), x.shape[2], device=x.device)
        else:
            lengths = (mask[:, 0, 0] == 0).sum(-1)
        averages, seen = pool_frames(x, lengths, self.stride, self.max_keys)
        nothing = torch.zeros(seen.shape, dtype=x.dtype, device=x.device)
        mask = nothing.masked_fill(~seen, torch.finfo(x.dtype).min)
        return averages, mask[:, None, None]


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(B, T, D) -> (B, H, T, d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: torch.Tensor) -> torch.Tensor:
    """(B, H, T, d) -> (B, T, D)."""
    return x.transpose(1, 2).flatten(2)
