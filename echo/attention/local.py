"""The local branch: attention through a window rule, in two equal implementations.

`local_attention_dense` is the definition, over all pairs of positions; it also serves sequences
so short that blocks would save nothing. `local_attention_blocks` never forms more than a band
of scores, so its time and memory grow linearly with the sequence.
"""

import torch
import torch.nn.functional as F

from echo.attention.biased import biased_attention
from echo.attention.windows import WindowRule

# The bias of a key that is not seen. Not -inf: rows of padding, which see no key at all, then
# stay finite, and their gradients with them.
LEAST = -1e30


def local_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rule: WindowRule,
    span: torch.Tensor,
    scale: float | torch.Tensor,
    valid: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attends through `rule`; a query that sees no key gets zeros.

    Args:
        query: (B, H, Q, d), the last Q of the key positions.
        key, value: (B, H, K, d).
        span: span scales in (0, 1), (B, 1 or H, 1 or Q).
        scale: what scores are multiplied with; a tensor has the span's shape or (1, H, 1).
        valid: (B, K), True at real positions; None where all are.
        lengths: (B,) real positions per sequence, for rules that end with it; None where open.

    Returns:
        (B, H, Q, d).
    """
    # The scale goes into the query, where it costs d multiplications and not K.
    query = query * (scale[..., None] if isinstance(scale, torch.Tensor) else scale)
    block = max(rule.left, rule.right)
    # Blocks form 3 scores for each position of theirs, but in smaller products and more copies.
    blocks_pay = key.shape[2] > 6 * block and query.shape[2] == key.shape[2]
    attend = local_attention_blocks if blocks_pay else local_attention_dense
    return attend(query, key, value, rule, span, valid, lengths)


def local_attention_dense(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rule: WindowRule,
    span: torch.Tensor,
    valid: torch.Tensor | None,
    lengths: torch.Tensor | None,
) -> torch.Tensor:
    """The definition. Arguments as for `local_attention`, with the query scaled already."""
    queries, keys = query.shape[2], key.shape[2]
    span = span[..., None]
    if rule.stationary and span.shape[2] == 1:
        # One row of distances holds all there is to know of the window.
        distances = torch.arange(1 - keys, queries, device=query.device).flip(0)
        weights = rule.weights(distances + keys - queries, distances.new_zeros(1), span, None)
        bias = toeplitz(bias_of(weights), queries, keys)
    else:
        positions = torch.arange(keys, device=query.device)
        length = None if lengths is None else lengths[:, None, None, None]
        weights = rule.weights(positions[keys - queries :, None], positions, span, length)
        bias = bias_of(weights)
    if valid is not None:
        bias = torch.where(valid[:, None, None], bias, LEAST)
    attended = biased_attention(query, key, value, bias)
    return drop_blind(attended, weights) if rule.may_be_empty else attended


def toeplitz(diagonals: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """(..., 1, rows + columns - 1) -> (..., rows, columns): entry (i, j) is diagonal j - i, the
    first diagonal being that of the lower left corner."""
    return diagonals[..., 0, :].unfold(-1, columns, 1).flip(-2)


def local_attention_blocks(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rule: WindowRule,
    span: torch.Tensor,
    valid: torch.Tensor | None,
    lengths: torch.Tensor | None,
) -> torch.Tensor:
    """The same over blocks: each block of queries sees its own block of keys and the one before,
    and, unless the rule looks back only, the one after."""
    T = query.shape[2]
    size = max(rule.left, rule.right)
    count = -(-T // size)
    tail = count * size - T
    spread = 2 if rule.right == 0 else 3
    ahead = (spread - 2) * size

    def neighbours(x: torch.Tensor) -> torch.Tensor:
        """(B, H, T, d) -> (B, H, count, spread * size, d)."""
        x = F.pad(x, (0, 0, size, ahead + tail)).unflatten(2, (count + spread - 1, size))
        return torch.cat([x[:, :, i : i + count] for i in range(spread)], dim=3)

    query = F.pad(query, (0, 0, 0, tail)).unflatten(2, (count, size))
    per_query = span.shape[2] > 1
    if per_query:
        span = F.pad(span, (0, tail), value=0.5).unflatten(2, (count, size))[..., None]
    else:
        span = span[..., None, None]

    starts = torch.arange(count, device=query.device)[:, None] * size
    query_positions = starts + torch.arange(size, device=query.device)
    key_positions = starts - size + torch.arange(spread * size, device=query.device)
    inside = (key_positions >= 0) & (key_positions < T)  # (count, spread * size)
    inside = inside[None] if valid is None else inside & valid[:, key_positions.clamp(0, T - 1)]
    # Blocks share their geometry, so one block's distances stand for all of them.
    some = slice(0, 1) if rule.stationary else slice(None)
    weights = rule.weights(
        query_positions[some, :, None],
        key_positions[some, None],
        span,
        None if lengths is None else lengths[:, None, None, None, None],
    )
    # Only here do blocks that share their geometry get a bias each.
    bias = torch.where(inside[:, None, :, None], bias_of(weights), LEAST)
    attended = biased_attention(query, neighbours(key), neighbours(value), bias)
    if rule.may_be_empty:
        attended = drop_blind(attended, weights)
    return attended.flatten(2, 3)[:, :, :T]


def bias_of(weights: torch.Tensor) -> torch.Tensor:
    """log m, with LEAST for log 0."""
    # The gradient of log at 0 is infinite, and times the mask's 0 it is not a number.
    log = weights.clamp(min=torch.finfo(weights.dtype).tiny).log()
    return log.masked_fill(weights <= 0, LEAST)


def drop_blind(attended: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Zeros for queries whose window is empty."""
    return attended * (weights > 0).any(-1, keepdim=True).to(attended.dtype)
