"""The local attention, repeated until its output settles, over a span that may be refined."""

from dataclasses import dataclass
from typing import Literal

import torch

from echo.attention.hybrid import HybridAttention, HybridSettings
from echo.attention.local import Band, local_band
from echo.attention.refiner import QTable, Refiner
from echo.attention.windows import Window

ROUNDS = 10
BASE_THRESHOLD = 1e-4
THRESHOLD_FACTOR = 0.1


@dataclass(frozen=True)
class FocusSettings(HybridSettings):
    form: str = "focus"
    # flex_attention cannot reuse its keys for another query.
    local_kernel: Literal["blocks"] = "blocks"
    refiner: bool = False  # learn by Q-learning when to shrink the span


class FocusAttention(HybridAttention):
    """Scores q·k · d^-1/2 / τ. The output is added to the queries and attended again, until a
    window's output hardly changes. The span predictor gets no gradient and does not learn; a
    refiner does, by other means.

    In the decoder each position is a window of its own, so that none waits for a later one.
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

    def replace_refiner(self, refiner: Refiner | None) -> None:
        """Puts another refiner, or none, in the place of this block's."""
        del self.refiner  # torch refuses to assign anything but a module over a module
        self.refiner = refiner

    def look(
        self, query: torch.Tensor, key: torch.Tensor, window: Window
    ) -> tuple[torch.Tensor, torch.Tensor, Window]:
        choice, lengths = None, window.lengths
        if self.refiner is not None:
            state = self.state(key, lengths, query.shape[2])
            keep, choice = self.refiner.choose(state, explore=self.training)
            span = (window.span * keep[:, None].to(window.span.dtype)).clamp(0, 1)
            window = Window(window.rule, span, window.valid, lengths)
        band = local_band(query.shape[2], key, key, window)
        query, found, _ = self.settle(band, query, window.span, lengths)
        if self.refiner is not None and self.training:
            with torch.no_grad():
                reward = self.reward(band, query, lengths)
                self.refiner.learn(choice, reward, self.state(found, lengths, query.shape[2]))
        return query, found, window

    def settle(
        self,
        band: Band,
        query: torch.Tensor,
        span: torch.Tensor,
        lengths: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Asks again until each window's answer hardly changes; every round is computed for all
        windows, so nothing waits on the device to learn which of them go on.

        Returns:
            The scaled query of each window's last round, what it found, both (B, H, Q, d), and
            how often the window updated its query, (B, Q).
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
        """(B, Q): the number of each frame's window; what is padding shares the last."""
        Q = query.shape[2]
        frames = torch.arange(Q, device=query.device)
        width = (self.settings.window * span[:, 0]).floor().clamp(min=1)
        windows = torch.div(frames, width, rounding_mode="floor").long()
        return windows.masked_fill(frames >= lengths[:, None], Q)

    def state(self, x: torch.Tensor, lengths: torch.Tensor | None, positions: int) -> torch.Tensor:
        """Mean and variance over frames of (B, H, K, d): (B, 1, 2 D) over the utterance, or, in
        the decoder, (B, positions, 2 D) over each position and all before it."""
        x = x.detach().transpose(1, 2).flatten(2).float()
        K = x.shape[1]
        if lengths is None:
            counts = torch.arange(1, K + 1, device=x.device)[:, None]
            mean, square = x.cumsum(1) / counts, (x * x).cumsum(1) / counts
            mean, square = mean[:, -positions:], square[:, -positions:]
        else:
            inside = torch.arange(K, device=x.device) < lengths[:, None]
            x = x * inside[..., None]
            counts = lengths[:, None, None]
            mean, square = x.sum(1, keepdim=True) / counts, (x * x).sum(1, keepdim=True) / counts
        return torch.cat([mean, square - mean * mean], dim=-1)

    def reward(self, band: Band, query: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        """Coverage - 0.1 · entropy of the attention weights of (B, H, Q, d): (B, 1), or (B, Q) in
        the decoder. Coverage is the share of weights over 0.01; 0 where nothing is seen."""
        weights = band.weights(query)
        visible = band.visible(query.shape[2])
        entropy = torch.special.entr(weights).sum(-1).mean(1)  # (B, Q)
        heads = weights.shape[1]
        covered = (weights > 0.01).sum((1, 3)) / heads
        seen = visible.expand(weights.shape).sum((1, 3)) / heads
        if lengths is None:
            return covered / seen.clamp(min=1) - 0.1 * entropy
        counts = lengths.clamp(min=1)
        inside = torch.arange(query.shape[2], device=query.device) < lengths[:, None]
        covered, seen, entropy = ((x * inside).sum(1) for x in (covered, seen, entropy))
        return (covered / seen.clamp(min=1) - 0.1 * entropy / counts)[:, None]


def mean_within(x: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """(B, Q), each replaced by the mean of its group; `groups` (B, Q) are numbers up to Q."""
    totals = torch.zeros(2, x.shape[0], x.shape[1] + 1, dtype=x.dtype, device=x.device)
    total = totals[0].scatter_add(1, groups, x)
    count = totals[1].scatter_add(1, groups, torch.ones_like(x))
    return (total / count.clamp(min=1)).gather(1, groups)
