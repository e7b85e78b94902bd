"""The global branch: ordinary multi-head self-attention with Whisper's conventions."""

import torch
import torch.nn.functional as F
from torch import nn

from echo.attention.settings import FocusedSettings


class AttentionMap(nn.Identity):
    """Called with the attention weights when they are requested, so that hooks can record them."""


class MultiHeadAttention(nn.Module):
    """Projections and attention. Query, value and output have a bias; the key has none.

    Parameters have the same names as in `transformers`' WhisperAttention, so its weights can be
    loaded. With a `global_stride`, keys and values are averages over that many frames, or over
    more if there would be more than `max_global_keys`. With a `rotary_base`, queries and keys have
    rotary positions.

    Raises:
        ValueError: `dims` is not a multiple of `heads`, or there is a `rotary_base` and the heads
            have an odd width.
    """

    def __init__(
        self, settings: FocusedSettings, dims: int, heads: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if dims % heads:
            raise ValueError(f"{dims} dimensions do not divide into {heads} heads")
        self.heads = heads
        self.head_dim = dims // heads
        self.dropout = dropout
        self.stride = settings.global_stride
        self.max_keys = settings.max_global_keys
        self.rotary_base = settings.rotary_base
        if self.rotary_base is not None and self.head_dim % 2:
            raise ValueError(
                f"attention rotary_base needs heads of even width, not {self.head_dim}"
            )
        self.q_proj = nn.Linear(dims, dims)
        self.k_proj = nn.Linear(dims, dims, bias=False)
        self.v_proj = nn.Linear(dims, dims)
        self.out_proj = nn.Linear(dims, dims)
        self.attention_map = AttentionMap()

    def project(
        self, x: torch.Tensor, start: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, T, D) -> query, key and value, each (B, H, T, d). `x` starts at position `start`."""
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
        """(B, H, Q, d) and (B, H, K, d) -> (B, Q, D): the concatenated heads, before the output
        projection.

        A mask (0 where a key may be seen) takes precedence over `causal`.
        """
        if query.shape[2] == 1:  # which may see every key; SDPA takes no comparison of a symbol
            causal = False
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
                is_causal=causal and mask is None,
            )
        )

    def weights(
        self, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, causal: bool
    ) -> torch.Tensor:
        """Returns the attention weights that `attend` uses: (B, H, Q, K). With a stride, K is the
        number of averages."""
        if self.stride > 1:
            key, mask = self.pool(key, mask)
        return attention_weights(query * self.head_dim**-0.5, key, mask, causal)

    def pool(self, x: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Averages (B, H, T, n) over strides, with an encoder's mask (B, 1, 1, T). Returns the
        averages and their mask."""
        if mask is None:
            lengths = torch.full((len(x),), x.shape[2], device=x.device)
        else:
            lengths = (mask[:, 0, 0] == 0).sum(-1)
        averages, seen = pool_frames(x, lengths, self.stride, self.max_keys)
        nothing = torch.zeros(seen.shape, dtype=x.dtype, device=x.device)
        mask = nothing.masked_fill(~seen, torch.finfo(x.dtype).min)
        return averages, mask[:, None, None]


def attention_weights(
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
) -> torch.Tensor:
    """Computes softmax(q kᵀ + mask) in float32 or better.

    Args:
        query: (..., Q, d), scaled. If `causal`, these are the last Q of the key positions.
        key: (..., K, d).
        mask: broadcasts to (..., Q, K). Values are added to the scores; booleans are True where a
            key may be seen. It takes precedence over `causal`.

    Returns:
        (..., Q, K).
    """
    scores = query @ key.mT
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    elif mask is not None:
        scores = scores + mask
    elif causal:
        Q, K = scores.shape[-2:]
        ahead = torch.ones(Q, K, dtype=torch.bool, device=key.device).triu(K - Q + 1)
        scores = scores.masked_fill(ahead, -torch.inf)
    return scores.to(torch.promote_types(scores.dtype, torch.float32)).softmax(-1)


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(B, T, D) -> (B, H, T, d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: torch.Tensor) -> torch.Tensor:
    """(B, H, T, d) -> (B, T, D)."""
    return x.transpose(1, 2).flatten(2)


def pool_frames(
    x: torch.Tensor, lengths: torch.Tensor, stride: int, most: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Averages each utterance's frames over strides.

    An utterance that would have more than `most` averages gets a longer stride, so that attention
    to them takes time and memory linear in its length. Neither the stride nor the averages depend
    on the amount of padding.

    Args:
        x: (B, H, T, d).
        lengths: (B,) valid frames, which come first.

    Returns:
        The averages (B, H, K, d), and a mask (B, K): True where an average has any frame.
    """
    T = x.shape[2]
    # An exported model has a symbol for T. min() and max() would decide for one side of it, and
    # -(-T // stride) would be rounded down, because ONNX truncates quotients.
    count = torch.sym_min(most, (T + stride - 1) // stride)
    longest = torch.sym_max(stride, (T + most - 1) // most)
    strides = torch.div(lengths + most - 1, most, rounding_mode="floor").clamp(min=stride)
    starts = torch.arange(count, device=x.device) * strides[:, None]  # (B, K)
    offsets = torch.arange(longest, device=x.device)
    frames = starts[..., None] + offsets  # (B, K, longest)
    taken = (offsets < strides[:, None, None]) & (frames < lengths[:, None, None])
    shares = taken / taken.sum(-1, keepdim=True).clamp(min=1)
    rows = torch.arange(x.shape[0], device=x.device)[:, None, None]
    gathered = x.transpose(1, 2)[rows, frames.clamp(max=T - 1)]  # (B, K, longest, H, d)
    pooled = (gathered * shares[..., None, None].to(x.dtype)).sum(2)
    return pooled.transpose(1, 2), taken[..., 0]


def rotate(x: torch.Tensor, base: float, start: int) -> torch.Tensor:
    """Rotates queries or keys by their positions, so that scores depend on distances.

    Args:
        x: (B, H, T, d), with an even d.
        base: the slowest frequency is about 1 / base.
        start: the position of the first query or key.
    """
    half = x.shape[-1] // 2
    dtype = torch.promote_types(x.dtype, torch.float32)
    frequencies = base ** (-torch.arange(half, device=x.device, dtype=dtype) / half)
    positions = torch.arange(start, start + x.shape[2], device=x.device)
    angles = positions[:, None] * frequencies
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
