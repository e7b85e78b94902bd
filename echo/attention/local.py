"""The local branch: attention through a window rule, in equivalent implementations.

`dense_band` is the reference, over all pairs of positions. It is also used for sequences so short
that blocks would save nothing. `block_band` only computes a band of scores, so its time and memory
grow linearly with the sequence. `flex.py` has a third implementation, for CUDA.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from echo.attention.autograd import biased_attention, block_count, overlapping_blocks
from echo.attention.flex import flex_serves, local_attention_flex
from echo.attention.global_branch import attention_weights
from echo.attention.settings import LocalKernel
from echo.attention.windows import LEAST, Window, WindowRule, bias_of


@dataclass(frozen=True)
class Band:
    """The keys and values that the queries of a local branch see, laid out for the matrix product,
    and the window over them. A band can be reused for many queries."""

    key: torch.Tensor  # (B, H, K, d), or (B, H, blocks, K, d)
    value: torch.Tensor
    bias: torch.Tensor  # log m, broadcasts to (B, H, ..., Q, K)
    may_be_empty: bool
    block: int | None = None  # queries per block

    def attend(self, query: torch.Tensor) -> torch.Tensor:
        """Attends with scaled queries (B, H, Q, d) -> (B, H, Q, d). A query with an empty window
        gets zeros."""
        attended = biased_attention(self.split(query), self.key, self.value, self.bias)
        if self.may_be_empty:
            attended = attended * self.seen.any(-1, keepdim=True)
        return self.join(attended, query.shape[2])

    def weights(self, query: torch.Tensor) -> torch.Tensor:
        """Returns the attention weights (B, H, Q, K) of scaled queries (B, H, Q, d). They are 0 at
        keys that are not seen. K is the number of keys in a query's block."""
        weights = attention_weights(self.split(query), self.key, self.bias) * self.seen
        return self.join(weights, query.shape[2])

    def visible(self, queries: int) -> torch.Tensor:
        """Returns which keys the queries see: (B, 1 or H, Q, K), in the layout of `weights`."""
        seen = self.seen
        if self.block is not None:
            seen = seen.expand(*seen.shape[:2], self.key.shape[2], self.block, seen.shape[-1])
        return self.join(seen, queries)

    @property
    def seen(self) -> torch.Tensor:
        return self.bias > LEAST / 2

    def split(self, query: torch.Tensor) -> torch.Tensor:
        """(B, H, Q, d) -> (B, H, blocks, block, d)."""
        if self.block is None:
            return query
        return split_blocks(query, self.key.shape[2], self.block)

    def join(self, x: torch.Tensor, queries: int) -> torch.Tensor:
        """(B, H, blocks, block, n) -> (B, H, queries, n)."""
        if self.block is None:
            return x
        if torch.compiler.is_exporting():  # which cannot tell that a slice is not the whole
            return x.flatten(2, 3)[:, :, torch.arange(queries, device=x.device)]
        return x.flatten(2, 3)[:, :, :queries]


def local_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    window: Window,
    kernel: LocalKernel = "blocks",
) -> torch.Tensor:
    """Attends through a window. A query that sees no key gets zeros. Under autocast, products have
    its precision, as in `scaled_dot_product_attention`.

    Args:
        query: (B, H, Q, d), scaled. These are the last Q of the key positions.
        key, value: (B, H, K, d).
        kernel: "flex" uses flex_attention if possible, and bands otherwise.

    Returns:
        (B, H, Q, d).
    """
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
        shared = value is key
        query, key = query.to(dtype), key.to(dtype)
        value = key if shared else value.to(dtype)
    if kernel == "flex" and flex_serves(query, key):
        return local_attention_flex(query, key, value, window)
    return local_band(query.shape[2], key, value, window).attend(query)


def distance_attention(value: torch.Tensor, window: Window) -> torch.Tensor:
    """Does as `local_attention` does for scores that are all 0: a weight depends on the distance
    alone, so each head is a convolution. The window must be stationary, with one span for a
    sequence.

    Args:
        value: (B, H, T, d).

    Returns:
        (B, H, T, d).
    """
    B, H, T, d = value.shape
    rule = window.rule
    distances = torch.arange(rule.left, -rule.right - 1, -1, device=value.device)
    bias = bias_at(window, distances, torch.zeros_like(distances), window.span, None)
    kernel = bias.softmax(-1).expand(B, H, -1).to(value.dtype)
    # One more channel adds up the weights of the keys that exist, which are fewer at both ends.
    keys = F.pad(value, (0, 1), value=1.0)
    if window.valid is not None:
        keys = keys * window.valid[:, None, :, None].to(keys.dtype)
    channels = keys.transpose(2, 3).reshape(1, -1, T)
    kernels = kernel[:, :, None].expand(-1, -1, d + 1, -1).reshape(-1, 1, len(distances))
    found = depthwise(F.pad(channels, (rule.left, rule.right)), kernels)
    sums = found.view(B, H, d + 1, T).transpose(2, 3)
    return sums[..., :d] / sums[..., d:].clamp(min=torch.finfo(value.dtype).tiny)


def depthwise(x: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Convolves each channel of (B, D, T) with its own of (D, 1, n): (B, D, T - n + 1)."""
    if x.dtype == torch.float16 and x.device.type == "cpu":
        # oneDNN's own kernels for it never end on processors with AVX512-FP16.
        return depthwise(x.float(), kernels.float()).to(x.dtype)
    return F.conv1d(x, kernels, groups=len(kernels))


def local_band(queries: int, key: torch.Tensor, value: torch.Tensor, window: Window) -> Band:
    """Makes the band of `queries` queries, in the layout that suits their number. The other
    arguments are those of `local_attention`."""
    # Blocks compute fewer scores, but in smaller products and with more copies. An exported model
    # has only one layout, which works for any length.
    if queries == key.shape[2] and (
        torch.compiler.is_exporting() or queries > 2 * block_sizes(window.rule)[1]
    ):
        return block_band(key, value, window)
    return dense_band(queries, key, value, window)


def dense_band(queries: int, key: torch.Tensor, value: torch.Tensor, window: Window) -> Band:
    """Makes a band of all pairs of positions. For the arguments see `local_band`."""
    rule, valid = window.rule, window.valid
    start = 0
    if rule.right == 0 and not torch.compiler.is_exporting():
        # Skip keys too far back for any query, such as most of a decoder's cache. An exported model
        # computes all of them: whether there are any to skip depends on the length.
        start = max(0, key.shape[2] - queries - rule.left)
        key, value = key[:, :, start:], value[:, :, start:]
        valid = None if valid is None else valid[:, start:]
    keys = key.shape[2]
    span = window.span[..., None]
    if rule.stationary and span.shape[2] == 1:
        # One row of distances fully describes the window.
        distances = torch.arange(keys - 1, -queries, -1, device=key.device)
        bias = bias_at(window, distances[None], distances.new_zeros(1), span, None)
        bias = toeplitz(bias, queries, keys)
    else:
        positions = torch.arange(start, start + keys, device=key.device)
        if window.starts is not None:
            positions = positions - window.starts[:, None, None]
        length = None if window.lengths is None else window.lengths[:, None, None, None]
        asking = positions[..., keys - queries :, None]
        bias = bias_at(window, asking, positions[..., None, :], span, length)
    if valid is not None:
        bias = torch.where(valid[:, None, None], bias, LEAST)
    return Band(key, value, bias, rule.may_be_empty)


def toeplitz(diagonals: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """(..., 1, rows + columns - 1) -> (..., rows, columns): entry (i, j) is diagonal j - i. The
    first diagonal is the lower left corner."""
    # Repeat the diagonals with a period of their length plus one, then split into rows of their
    # length: each row starts one entry further back. `unfold` would work too, but recompiles for
    # each length.
    length = rows + columns - 1
    padded = F.pad(diagonals, (0, 1)).expand(*diagonals.shape[:-2], rows, length + 1)
    cut = padded.flatten(-2)[..., rows - 1 : rows - 1 + rows * length]
    return cut.unflatten(-1, (rows, length))[..., :columns]


def block_band(key: torch.Tensor, value: torch.Tensor, window: Window) -> Band:
    """Makes a band of blocks: each block of queries sees its own keys and those that the rule can
    reach from it. For the arguments see `local_attention`."""
    rule, span, valid = window.rule, window.span, window.valid
    T = key.shape[2]
    size, width = block_sizes(rule)
    count = block_count(T, size)
    if span.shape[2] > 1:
        span = split_blocks(span[..., None], count, size)
    else:
        span = span[..., None, None]
    starts = torch.arange(count, device=key.device)[:, None] * size
    query_positions = starts + torch.arange(size, device=key.device)
    key_positions = starts - rule.left + torch.arange(width, device=key.device)
    inside = (key_positions >= 0) & (key_positions < T)  # (count, width)
    inside = inside[None] if valid is None else inside & valid[:, key_positions.clamp(0, T - 1)]
    # All blocks have the same geometry, so the distances of one block are enough.
    some = slice(0, 1) if rule.stationary else slice(None)
    length = None if window.lengths is None else window.lengths[:, None, None, None, None]
    asking, asked = query_positions[some, :, None], key_positions[some, None]
    if window.starts is not None:
        starts = window.starts[:, None, None, None, None]
        asking, asked = asking - starts, asked - starts
    bias = bias_at(window, asking, asked, span, length)
    # Only here does each block get its own bias.
    bias = torch.where(inside[:, None, :, None], bias, LEAST)
    keys = overlapping_blocks(key, rule.left, size, width)
    values = keys if value is key else overlapping_blocks(value, rule.left, size, width)
    return Band(keys, values, bias, rule.may_be_empty, block=size)


def split_blocks(x: torch.Tensor, count: int, size: int) -> torch.Tensor:
    """(B, H, T, n) -> (B, H, count, size, n). Past the end of x, blocks have zeros, or its last
    entry in an exported model."""
    if torch.compiler.is_exporting():  # which cannot divide a padded length into blocks
        return overlapping_blocks(x, 0, size, size)
    return F.pad(x, (0, 0, 0, count * size - x.shape[2])).unflatten(2, (count, size))


def bias_at(
    window: Window,
    query: torch.Tensor,
    key: torch.Tensor,
    span: torch.Tensor,
    length: torch.Tensor | None,
) -> torch.Tensor:
    """Returns the bias for the scores of query positions (..., Q, 1) and key positions (..., 1, K):
    log m, plus the relative bias within its range of distances. `span` and `length` are those of
    `WindowRule.weights`."""
    bias = bias_of(window.rule.weights(query, key, span, length))
    relative = window.relative_bias
    if relative is None:
        return bias
    places = query - key + window.rule.right
    inside = (places >= 0) & (places < relative.shape[1])
    return bias + relative[:, places.clamp(0, relative.shape[1] - 1)] * inside


def block_sizes(rule: WindowRule) -> tuple[int, int]:
    """Returns the number of queries and of keys per block. There are about as many queries as keys
    beyond them. This balances wasted scores against copied keys. Both are multiples that suit the
    processor."""
    beyond = rule.left + rule.right
    size = max(32, -(-beyond * 4 // 5 // 16) * 16)
    return size, -(-(size + beyond) // 16) * 16
