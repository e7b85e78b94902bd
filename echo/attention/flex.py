"""The local branch with PyTorch's `flex_attention`, which on CUDA compiles the window rule into one
fused kernel.

The result equals that of the bands in `local.py`. Those are used where `flex_attention` does not
run (it has no backward on the CPU) and for short sequences.
"""

from functools import lru_cache
from typing import Any

import torch
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

from echo.attention.windows import LEAST, Window, bias_of

BLOCK = 128  # the tile that flex_attention skips or computes as a whole


def local_attention_flex(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, window: Window
) -> torch.Tensor:
    """Takes the arguments of `local.local_attention` and returns the same result. There must be as
    many queries as keys."""
    rule, span, valid, lengths = window.rule, window.span, window.valid, window.lengths
    starts, relative_bias = window.starts, window.relative_bias
    spans, positions = span.shape[1:]

    def weight(b: Any, h: Any, q: Any, k: Any) -> torch.Tensor:
        scale = span[b, h % spans, q % positions]
        start = 0 if starts is None else starts[b]
        return rule.weights(q - start, k - start, scale, None if lengths is None else lengths[b])

    def add_bias(score: Any, b: Any, h: Any, q: Any, k: Any) -> torch.Tensor:
        bias = bias_of(weight(b, h, q, k))
        if relative_bias is not None:
            place = (q - k + rule.right).clamp(0, relative_bias.shape[1] - 1)
            bias = bias + relative_bias[h, place]
        if valid is not None:
            bias = torch.where(valid[b, k], bias, LEAST)
        return score + bias

    attend = compiled() if query.is_cuda else flex_attention
    attended, aux = attend(
        query,
        key.to(query.dtype),
        value.to(query.dtype),
        score_mod=add_bias,
        block_mask=band_mask(query.shape[2], rule.left, rule.right, query.device),
        scale=1.0,
        return_aux=AuxRequest(lse=True),
    )
    if rule.may_be_empty:
        attended = attended * (aux.lse > LEAST / 2)[..., None]
    return attended


def flex_serves(query: torch.Tensor, key: torch.Tensor) -> bool:
    """Says whether flex_attention can be used: on CUDA, for whole sequences."""
    return query.is_cuda and query.shape[2] == key.shape[2]


@lru_cache(maxsize=1)
def compiled() -> Any:
    return torch.compile(flex_attention, dynamic=True)


def band_mask(frames: int, left: int, right: int, device: torch.device) -> BlockMask:
    """Computes the tiles that a band touches directly, without testing every pair of positions."""
    count = -(-frames // BLOCK)
    starts = torch.arange(count, device=device) * BLOCK
    first = (starts - left).clamp(min=0) // BLOCK
    last = (starts + BLOCK - 1 + right).clamp(max=frames - 1) // BLOCK
    indices = (first[:, None] + torch.arange(count, device=device)) % count
    return BlockMask.from_kv_blocks(
        (last - first + 1)[None, None].int(),
        indices[None, None].int(),
        BLOCK_SIZE=BLOCK,
        mask_mod=lambda b, h, q, k: (q - k <= left) & (k - q <= right),
        seq_lengths=(frames, frames),
    )
