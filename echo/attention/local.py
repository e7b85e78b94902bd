"""The local branch: attention through a window rule, in two equal implementations.

`local_attention_dense` is the definition, over all pairs of positions; it also serves sequences
so short that blocks would save nothing. `local_attention_blocks` never forms more than a band
of scores, so its time and memory grow linearly with the sequence.
"""

import torch
import torch.nn.functional as F

from echo.attention.windows import WindowRule


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
    blocks_pay = key.shape[2] > 3 * block and query.shape[2] == key.shape[2]
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
    positions = torch.arange(keys, device=query.device)
    weights = rule.weights(
        positions[keys - queries :, None],
        positions,
        span[..., None],
        None if lengths is None else lengths[:, None, None, None],
    )
    valid = None if valid is None else valid[:, None, None]
    bias, seen = log_weights(weights, valid, query.dtype)
    scores = query @ key.transpose(-1, -2) + bias
    return (scores.softmax(-1) @ value) * seen


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
    B, H, T, d = query.shape
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
    if valid is None:
        inside = inside[None]
    else:
        inside = inside & valid[:, key_positions.clamp(0, T - 1)]
    # Blocks share their geometry, so one block's distances stand for all of them.
    some = slice(0, 1) if rule.stationary else slice(None)
    weights = rule.weights(
        query_positions[some, :, None],
        key_positions[some, None],
        span,
        None if lengths is None else lengths[:, None, None, None, None],
    )
    bias, seen = log_weights(weights, inside[:, None, :, None], query.dtype)
    scores = query @ neighbours(key).transpose(-1, -2) + bias
    attended = (scores.softmax(-1) @ neighbours(value)) * seen
    return attended.flatten(2, 3)[:, :, :T]


def log_weights(
    weights: torch.Tensor, valid: torch.Tensor | None, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """What is added to the scores for weights m, and whether (1 or 0) a query sees any key.

    The least value stands for log 0, not -inf: rows of padding, which see no valid key, then
    stay finite, and their gradients with them.
    """
    allowed = weights > 0
    if valid is not None:
        allowed = allowed & valid
    least = torch.finfo(dtype).min / 4
    # log is taken of allowed weights only: its gradient at 0 is infinite.
    bias = torch.where(allowed, torch.where(allowed, weights, 1).log(), least)
    return bias.to(dtype), allowed.any(-1, keepdim=True).to(dtype)
