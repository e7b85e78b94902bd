"""Window rules of the local branch: which keys a query sees, and how sharp the softmax is.

A window rule turns positions and a span scale into weights m in [0, 1]. The kernels in `local.py`
and `flex.py` compute weight_ij ∝ m_ij · exp(score_ij). Spans are always tensors, so nothing here
waits for the device.
"""

from dataclasses import dataclass
from typing import Protocol

import torch

# The bias of a key that is not seen. It is not -inf, so that rows of padding, which see no key at
# all, stay finite, and so do their gradients. It fits in half precision, and exp() of it is 0.
LEAST = -6e4


class WindowRule(Protocol):
    """Computes m from query position, key position and span scale."""

    @property
    def left(self) -> int:
        """How far back a query can see at most, with any span, in positions."""
        ...

    @property
    def right(self) -> int:
        """How far ahead a query can see at most, with any span, in positions."""
        ...

    @property
    def stationary(self) -> bool:
        """Whether m depends only on the distance between the positions."""
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
        """Computes m for positions `query` (..., Q, 1) and `key` (..., 1, K). Span scales and
        sequence lengths broadcast against them. `length` is None if sequences are open-ended."""
        ...


@dataclass(frozen=True)
class Window:
    """A window rule with all of its inputs for a batch."""

    rule: WindowRule
    span: torch.Tensor  # span scales in (0, 1), (B, 1 or H, 1 or Q)
    valid: torch.Tensor | None = None  # (B, K), True at real positions; None if all are real
    # (B,) number of real positions, for rules that stop at the sequence's end. None if open-ended.
    lengths: torch.Tensor | None = None
    # (H, left + 1 + right), added to the scores by distance: query - key, starting at -right.
    relative_bias: torch.Tensor | None = None
    # (B,) first position of each sequence, for rules that count from there. None if all are 0.
    starts: torch.Tensor | None = None


@dataclass(frozen=True)
class AdaptiveWindow:
    """A soft window whose edge can be learned: m falls from 1 to 0 over `ramp` positions beyond
    span · max_span (Sukhbaatar et al. 2019, "Adaptive Attention Span in Transformers"). It is
    centred on the query, or only looks back if `causal`."""

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
    """Windows with hard edges. Frames are split into windows of w = floor(window · span), and keys
    reach n = floor(max_span · span) around each window. The span acts only through floor(), so it
    gets no gradient.

    In the causal variant each position uses its own span, and sees no later position.
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
        # Only the first `extent` positions of queries and keys are used.
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
    """Returns log m, with LEAST for log 0."""
    # The gradient of log at 0 is infinite. Times the mask's 0 it would be NaN.
    log = weights.clamp(min=torch.finfo(weights.dtype).tiny).log()
    return log.masked_fill(weights <= 0, LEAST)


def span_temperature(span: torch.Tensor, temp_scale: float, sharpen_longer: bool) -> torch.Tensor:
    """Returns the softmax temperature for a span scale, with the span's shape."""
    if sharpen_longer:
        return 1 + temp_scale * (1 - span)
    return 0.5 + temp_scale * span
