"""The focus form: local attention repeats until its output settles, optionally with a refined
span."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from echo.attention.hybrid import HybridAttention, HybridSettings
from echo.attention.local import Band, block_band, local_band
from echo.attention.refiner import QTable, Refiner, recomputing
from echo.attention.windows import Window

ROUNDS = 10
BASE_THRESHOLD = 1e-4
THRESHOLD_FACTOR = 0.1


@dataclass(frozen=True)
class FocusSettings(HybridSettings):
    form: str = "focus"
    # Kernel of the local branch; flex_attention cannot reuse its keys for another query.
    local_kernel: Literal["blocks"] = "blocks"
    # Whether Q-learning learns when to shrink the span.
    refiner: bool = False


class FocusAttention(HybridAttention):
    """Scores are q·k · d^-1/2 / τ. The output is added to the queries and attention runs again,
    until a window's output hardly changes. The span predictor gets no gradient and does not learn.
    A refiner learns, but not by gradients.

    In the decoder each position is a separate window, so that no position depends on a later one.
    """

    settings_class = FocusSettings
    score_power = -0.5

    def __init__(
        self,
        settings: FocusSettings,
        dims: int,
        heads: int,
        causal: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(settings, dims, heads, causal, dropout)
        self.refiner: Refiner | None = QTable() if settings.refiner else None
        self.chosen: Any = None  # the refiner's choice in the last training forward pass

    def look(
        self, query: torch.Tensor, key: torch.Tensor, window: Window
    ) -> tuple[torch.Tensor, torch.Tensor, Window]:
        positions = query.shape[2]
        choice, learns = None, False
        if self.refiner is not None:
            # A recomputation must repeat the choice of the first pass, and must not learn again.
            again = self.training and recomputing()
            learns = self.training and not again
            if again:
                keep, choice = self.chosen
            else:
                state = self.state(key, window, positions)
                keep, choice = self.refiner.choose(state, explore=self.training)
            if learns:
                self.chosen = keep, choice
            span = (window.span * keep[:, None].to(window.span.dtype)).clamp(0, 1)
            window = replace(window, span=span)
        # Rounding errors grow with each round: in half precision the output would never settle.
        dtype = torch.promote_types(query.dtype, torch.float32)
        key = key.to(dtype)
        if window.lengths is None:
            band = local_band(positions, key, key, window)
        else:
            # Sums over all keys are rounded differently for each amount of padding, which the
            # rounds amplify. A block's keys are as many for any amount.
            band = block_band(key, key, window)
        with torch.autocast(query.device.type, enabled=False):
            asked, found, _ = self.settle(band, query.to(dtype), window.span, window.lengths)
        if self.refiner is not None and learns:
            with torch.no_grad():
                reward = self.reward(band, asked, window.lengths)
                following = self.state(found, window, positions)
                self.refiner.learn(choice, reward, following, real(window, reward))
        return asked.to(query.dtype), found.to(query.dtype), window

    def settle(
        self,
        band: Band,
        query: torch.Tensor,
        span: torch.Tensor,
        lengths: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Repeats attention until each window's output hardly changes. Every round is computed for
        all windows, so there is no device sync to find out which of them continue.

        Returns:
            The scaled query and the output of each window's last round, both (B, H, Q, d), and the
            number of times that each window updated its query, (B, Q).
        """
        scale = self.scale(span).to(query.dtype)
        windows = None if lengths is None else self.windows_of(query, span, lengths)
        found = torch.zeros_like(query)
        running = torch.ones_like(query[:, 0, :, 0], dtype=torch.bool)  # (B, Q)
        asked, updates = query, torch.zeros_like(running, dtype=torch.long)
        for _ in range(ROUNDS):
            going = running[:, None, :, None]
            asked = torch.where(going, query, asked)
            answer = torch.where(going, band.attend(query * scale), found)
            change = (answer - found).detach().abs().mean((1, 3))  # (B, Q)
            if windows is not None:
                change = mean_within(change, windows)
            running = running & (change >= BASE_THRESHOLD + THRESHOLD_FACTOR * change)
            query = torch.where(running[:, None, :, None], query + answer, query)
            updates = updates + running
            found = answer
        return asked * scale, found, updates

    def windows_of(
        self, query: torch.Tensor, span: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        """(B, Q): the index of each frame's window. All padding shares the last index."""
        Q = query.shape[2]
        frames = torch.arange(Q, device=query.device)
        width = (self.settings.window * span[:, 0]).floor().clamp(min=1)
        windows = torch.div(frames, width, rounding_mode="floor").long()
        return windows.masked_fill(frames >= lengths[:, None], Q)

    def state(self, x: torch.Tensor, window: Window, positions: int) -> torch.Tensor:
        """Computes mean and variance over frames of (B, H, K, d). In the encoder they are
        (B, 1, 2 D), over the utterance. In the decoder they are (B, positions, 2 D), over the valid
        positions up to and including each position."""
        x = x.detach().transpose(1, 2).flatten(2).float()
        K, lengths = x.shape[1], window.lengths
        if lengths is None:
            counts = torch.arange(1, K + 1, device=x.device)[:, None]
            if window.valid is not None:
                valid = window.valid[:, -K:, None]
                x, counts = x.masked_fill(~valid, 0), valid.cumsum(1).clamp(min=1)
            mean, square = x.cumsum(1) / counts, (x * x).cumsum(1) / counts
            mean, square = mean[:, -positions:], square[:, -positions:]
        else:
            inside = torch.arange(K, device=x.device) < lengths[:, None]
            x = x * inside[..., None]
            counts = lengths[:, None, None].clamp(min=1)
            mean, square = x.sum(1, keepdim=True) / counts, (x * x).sum(1, keepdim=True) / counts
        return torch.cat([mean, square - mean * mean], dim=-1)

    def reward(self, band: Band, query: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        """Computes coverage - 0.1 · entropy of the attention weights of queries (B, H, Q, d):
        (B, 1) in the encoder, (B, Q) in the decoder. Coverage is the share of weights over 0.01.
        It is 0 if nothing is seen."""
        weights = band.weights(query)
        visible = band.visible(query.shape[2])
        entropy = torch.special.entr(weights).sum(-1).mean(1)  # (B, Q)
        heads = weights.shape[1]
        covered = (weights > 0.01).sum((1, 3)) / heads
        seen = visible.expand(weights.shape).sum((1, 3)) / heads
        if lengths is None:
            return covered / seen.clamp(min=1) - 0.1 * entropy
        # Padding sees nothing, so it adds nothing to these sums.
        covered, seen, entropy = (x.sum(1) for x in (covered, seen, entropy))
        return (covered / seen.clamp(min=1) - 0.1 * entropy / lengths.clamp(min=1))[:, None]


def real(window: Window, reward: torch.Tensor) -> torch.Tensor:
    """Says which of the rewards (B, 1 or Q) are not for padding."""
    if window.lengths is not None:
        return (window.lengths > 0)[:, None]
    if window.valid is not None:
        return window.valid[:, -reward.shape[1] :]
    return torch.ones_like(reward, dtype=torch.bool)


def mean_within(x: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """(B, Q) -> (B, Q): each value is replaced by the mean of its group. `groups` (B, Q) has the
    index of each value's group, from 0 to Q."""
    totals = torch.zeros(2, x.shape[0], x.shape[1] + 1, dtype=x.dtype, device=x.device)
    total = totals[0].scatter_add(1, groups, x)
    count = totals[1].scatter_add(1, groups, torch.ones_like(x))
    return (total / count.clamp(min=1)).gather(1, groups)
