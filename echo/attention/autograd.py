"""Computes softmax(q kᵀ + bias) v, where the bias may have a gradient.

`scaled_dot_product_attention` has no fast CPU kernel for such a bias, and autograd through the
single operations keeps and copies more than necessary. This version keeps only one score matrix
and batches everything for the matrix product. It is tested with `gradcheck`.
"""

from typing import Any

import torch
import torch.nn.functional as F


class BiasedAttention(torch.autograd.Function):
    """See `biased_attention`."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        bias: torch.Tensor,
    ) -> torch.Tensor:
        q, k, v = flat(query), flat(key), flat(value)
        scores = torch.bmm(q, k.transpose(1, 2)).view(*query.shape[:-1], key.shape[-2])
        # In half precision, only the softmax runs in float32.
        scores = (scores.float() if scores.dtype.itemsize < 4 else scores).add_(bias)
        weights = torch.softmax(scores, -1, out=scores).to(v.dtype)
        attended = torch.bmm(flat(weights), v)
        ctx.save_for_backward(q, k, v, weights, attended)
        ctx.bias_shape, ctx.bias_dtype = bias.shape, bias.dtype
        return attended.view(query.shape)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        q, k, v, weights, attended = ctx.saved_tensors
        lead = weights.shape[:-2]
        g, p = flat(grad.to(v.dtype)), flat(weights)
        dv = torch.bmm(p.transpose(1, 2), g)
        ds = torch.bmm(g, v.transpose(1, 2))
        ds = ds.sub_((g * attended).sum(-1, keepdim=True)).mul_(p)
        dq, dk = torch.bmm(ds, k), torch.bmm(ds.transpose(1, 2), q)
        db = None
        if ctx.needs_input_grad[3]:
            db = ds.view(weights.shape).sum_to_size(ctx.bias_shape).to(ctx.bias_dtype)
        return (*(x.unflatten(0, lead) for x in (dq, dk, dv)), db)


def flat(x: torch.Tensor) -> torch.Tensor:
    """(..., R, C) -> (N, R, C). Each matrix is made contiguous, because otherwise they would be
    multiplied one by one. The matrices may overlap each other."""
    x = x.reshape(-1, *x.shape[-2:])
    return x if x.stride()[1:] == (x.shape[2], 1) else x.contiguous()


def biased_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """Attends with a differentiable bias.

    Args:
        query: (..., Q, d), already scaled.
        key, value: (..., K, d).
        bias: broadcasts to (..., Q, K); finite.

    Returns:
        (..., Q, d).
    """
    key, value = key.to(query.dtype), value.to(query.dtype)
    if torch.compiler.is_exporting():
        scores = query @ key.mT + bias
        return scores.softmax(-1).to(value.dtype) @ value
    if query.ndim == 4 and not torch.is_grad_enabled():
        bias = bias.to(query.dtype)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
    if value is key:
        value = value.view_as(value)  # torch.compile does not accept the same argument twice
    with torch.autocast(query.device.type, enabled=False):
        return BiasedAttention.apply(query, key, value, bias)


class OverlappingBlocks(torch.autograd.Function):
    """See `overlapping_blocks`. The backward adds up the gradient slice by slice, which is several
    times faster than autograd through `unfold`."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, before: int, size: int, width: int) -> torch.Tensor:
        B, H, T, d = x.shape
        ctx.sizes = T, before, size, width
        count = block_count(T, size)
        buffer = x.new_zeros(before + B * H * count * size + width, d)
        rows = buffer[before : before + B * H * count * size].view(B, H, count * size, d)
        rows[:, :, :T] = x
        row = count * size * d
        return buffer.as_strided((B, H, count, width, d), (H * row, row, size * d, d, 1))

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        T, before, size, width = ctx.sizes
        B, H, count, _, d = grad.shape
        spread = -(-width // size)
        blocks = grad.new_zeros(B, H, count + spread, size, d)
        for i in range(spread):
            part = grad[:, :, :, i * size : (i + 1) * size]
            blocks[:, :, i : i + count, : part.shape[3]] += part
        return blocks.flatten(2, 3)[:, :, before : before + T], None, None, None


def overlapping_blocks(x: torch.Tensor, before: int, size: int, width: int) -> torch.Tensor:
    """(B, H, T, d) -> (B, H, block_count(T, size), width, d): block i has the `width` positions
    that start at i * size - before.

    Blocks share memory instead of being copied. Past the ends of its sequence, a block therefore
    has zeros or values of neighbouring sequences. The caller must mask them.
    """
    if torch.compiler.is_exporting():  # export formats have no strides
        T = x.shape[2]
        count = block_count(T, size)
        starts = torch.arange(count, device=x.device)[:, None] * size - before
        return x[:, :, (starts + torch.arange(width, device=x.device)).clamp(0, T - 1)]
    return OverlappingBlocks.apply(x, before, size, width)


def block_count(positions: int, size: int) -> int:
    """Returns the number of blocks of `size` that hold so many positions. A compiled or exported
    model has one more: there, a single block and a full last one would be special cases."""
    count = (positions + size - 1) // size
    return count + 1 if torch.compiler.is_compiling() else count
