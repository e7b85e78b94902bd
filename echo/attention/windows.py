"""Which keys a query sees in the local branch, and how sharply it looks at them.

A window rule turns positions and a span scale into weights m in [0, 1]; the kernels in
`local.py` and `flex.py` compute weight_ij ∝ m_ij · exp(score_ij). Spans are tensors throughout,
so nothing here waits on the device.
"""

from dataclasses import dataclass
from typing import Protocol

import torch

# The bias of a key that is not seen. Not -inf: rows of padding, which see no key at all, then
# stay finite, and their gradients with them. Half precision can hold it, and exp() of it is 0.
LEAST = -6e4


class WindowRule(Protocol):
    """m as a function of query position, key position and span scale."""

    @property
    def left(self) -> int:
        """How far back a query can see, whatever its span."""
        ...

    @property
    def right(self) -> int:
        """How far ahead."""
        ...

    @property
    def stationary(self) -> bool:
        """Whether m depends on the distance between the positions alone."""
        ...

    @property
    def may_be_empty(self) -> bool:
        """Whether a query may see no key at all, not even its own position."""
        ...

    def weights(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        span: torch.Tensor,
        length: torch.Tensor | None,
    ) -> torch.Tensor:
        """m for positions `query` (..., Q, 1) and `key` (..., 1, K), span scales that broadcast
        against them, and sequence lengths likewise (None where sequences are open-ended)."""
        ...


@dataclass(frozen=True)
class Window:
    """What the queries of a batch see: a rule with all that it depends on."""

    rule: WindowRule
    span: torch.Tensor  # span scales in (0, 1), (B, 1 or H, 1 or Q)
    valid: torch.Tensor | None = None  # (B, K), True at real positions; None where all are
    # (B,) real positions of each sequence, for rules that end with it; None where it is open.
    lengths: torch.Tensor | None = None
    # (H, left + 1 + right), added to the scores by distance, query - key, from -right on.
    relative_bias: torch.Tensor | None = None
    # (B,) where each sequence begins, for rules that count from there; None where all do at 0.
    starts: torch.Tensor | None = None


@dataclass(frozen=True)
class AdaptiveWindow:
    """A soft window with an edge that gradients can move: m falls from 1 to 0 over `ramp`
    positions beyond span · max_span (Sukhbaatar et al. 2019, "Adaptive Attention Span in
    Transformers"). Centred, or backward-looking where `causal`."""

    max_span: int
    ramp: int
    causal: bool

    stationary = True
    may_be_empty = False

    @property
    def left(self) -> int:
        return self.max_span + self.ramp - 1

    @property
    def right(self) -> int:
        return 0 if self.causal else self.left

    def weights(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        span: torch.Tensor,
        length: torch.Tensor | None,
    ) -> torch.Tensor:
        distance = query - key
        reach = (span * self.max_span + self.ramp - distance.abs()) / self.ramp
        weights = reach.clamp(0, 1)
        return weights * (distance >= 0) if self.causal else weights


@dataclass(frozen=True)
class HardWindow:
    """Windows with hard edges: frames are cut into windows of w = floor(window · span), whose
    keys reach n = floor(max_span · span) around them. The span acts through floor() alone, so
    no gradient reaches it.

    In the causal variant each position follows its own span, and no window sees past it.
    """

    max_span: int
    window: int
    max_dist: int
    causal: bool

    stationary = False
    may_be_empty = True

    @property
    def left(self) -> int:
        return self.max_span

    @property
    def right(self) -> int:
        return 0 if self.causal else self.window

    def weights(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        span: torch.Tensor,
        length: torch.Tensor | None,
    ) -> torch.Tensor:
        scaled_span = (self.max_span * span).floor()
        width = (self.window * span).floor().clamp(min=1)  # w
        reach = scaled_span.clamp(min=1)  # n

        start = torch.div(query, width, rounding_mode="floor") * width
        first_key = (start - reach + width).clamp(min=0)
        last_key = start + reach
        queries = width
        if length is not None:
            queries = torch.minimum(width, length - start)
            last_key = torch.minimum(last_key, length.to(last_key.dtype))
        # Queries and keys are both cut to their first `extent` positions.
        extent = torch.minimum(scaled_span, torch.minimum(queries, last_key - first_key))
        extent = torch.minimum(extent, torch.minimum(reach, width).clamp(max=self.max_dist))
        seen = (
            (query - start < extent)
            & (key >= first_key)
            & (key < first_key + extent)
            & (key < last_key)
        )
        if self.causal:
            seen = seen & (key <= query)
        return seen.to(span.dtype)


def bias_of(weights: torch.Tensor) -> torch.Tensor:
    """log m, with LEAST for log 0."""
    # The gradient of log at 0 is infinite, and times the mask's 0 it is not a number.
    log = weights.clamp(min=torch.finfo(weights.dtype).tiny).log()
    return log.masked_fill(weights <= 0, LEAST)


def span_temperature(span: torch.Tensor, temp_scale: float, sharpen_longer: bool) -> torch.Tensor:
    """The softmax temperature that a span scale asks for, of the span's shape."""
    if sharpen_longer:
        return 1 + temp_scale * (1 - span)
    return 0.5 + temp_scale * span
