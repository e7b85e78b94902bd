"""The forms with hard windows, over the normalised input itself.

The span acts through floor() and as a constant in the temperature, so no gradient reaches its
predictor and it never learns; `AdaptiveAttention` mends that.
"""

import torch
from torch import nn

from echo.attention.base import Branches, FocusedAttention, SpanPredictor
from echo.attention.cache import LayerCache
from echo.attention.global_branch import MultiHeadAttention, merge_heads, split_heads
from echo.attention.local import local_attention
from echo.attention.settings import AttentionSettings
from echo.attention.windows import HardWindow, span_temperature


class BranchProjection(nn.Linear):
    """W_p [L ; G] + b_p."""

    def __init__(self, dims: int, local_gain: float) -> None:
        super().__init__(2 * dims, dims)
        self.local_gain = local_gain
        self.load_state_dict(self.initial_weights())

    def initial_weights(self) -> dict[str, torch.Tensor]:
        """A new model's: the global branch, and the local one times its gain."""
        one = torch.eye(self.out_features)
        return {
            "weight": torch.cat([self.local_gain * one, one], dim=1),
            "bias": torch.zeros(self.out_features),
        }


class HybridAttention(FocusedAttention):
    """Form 1: scores q·k · d^-1/4 / τ. The span predictor gets no gradient and does not learn."""

    score_power = -0.25  # scores are multiplied with d to this power

    def __init__(
        self,
        settings: AttentionSettings,
        dims: int,
        heads: int,
        causal: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.heads = heads
        self.causal = causal
        self.ln_local = nn.LayerNorm(dims)
        self.ln_global = nn.LayerNorm(dims)
        self.global_attn = MultiHeadAttention(
            dims,
            heads,
            dropout,
            settings.global_stride,
            settings.max_global_keys,
            settings.rotary_base,
        )
        self.span_predictor = SpanPredictor(dims, 1)
        self.projection = BranchProjection(dims, settings.first_gain)
        self.relative_bias = None
        self.window = HardWindow(settings.max_span, settings.window, settings.max_dist, causal)

    @property
    def global_branch(self) -> MultiHeadAttention:
        return self.global_attn

    def branches(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Branches:
        valid = self.valid(mask)
        past = 0 if cache is None else cache.past
        query, key, value = self.global_attn.project(self.ln_global(x), past)
        if cache is not None:
            key, value = cache.extend_global(key, value)
        attended = self.global_attn.attend(query, key, value, mask, self.causal)
        global_out = self.global_attn.out_proj(attended)
        span = self.predict_span(self.span_predictor, global_out, valid, cache).detach()

        local = local_key = split_heads(self.ln_local(x), self.heads)
        if cache is not None:
            local_key, _ = cache.extend_local(local, local)
        local_query, local_out, span = self.look(
            local, local_key, span, valid, self.lengths(x, valid)
        )
        return Branches(
            query, key, global_out, local_query, local_key, merge_heads(local_out), span
        )

    def join(self, branches: Branches) -> torch.Tensor:
        return self.projection(torch.cat([branches.local_out, branches.global_out], dim=-1))

    def gain(self) -> torch.Tensor:
        of_local, of_global = self.projection.weight.detach().chunk(2, dim=1)
        return of_local.norm() / of_global.norm()

    def look(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        span: torch.Tensor,
        valid: torch.Tensor | None,
        lengths: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The local branch: queries (B, H, Q, d) over keys that are their own values.

        Returns:
            The scaled query that was asked, what it found, both (B, H, Q, d), and the span that
            was used.
        """
        query = query * self.scale(span).to(query.dtype)
        found = local_attention(
            query, key, key, self.window, span, valid, lengths, self.settings.local_kernel
        )
        return query, found, span

    def scale(self, span: torch.Tensor) -> torch.Tensor:
        """What scores are multiplied with, (B, 1, 1 or Q, 1)."""
        d = self.global_attn.head_dim
        return (d**self.score_power / self.temperature(span))[..., None]

    def temperature(self, span: torch.Tensor) -> torch.Tensor:
        return span_temperature(span, self.settings.temp_scale, self.settings.sharpen_longer)


class ScaledAttention(HybridAttention):
    """Form 2: sharper for longer spans, and the shorter the span, the more each frame counts: the
    attention weights are multiplied by 1/s. The span predictor gets no gradient and does not
    learn."""

    def look(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        span: torch.Tensor,
        valid: torch.Tensor | None,
        lengths: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        query, found, span = super().look(query, key, span, valid, lengths)
        # Under 1/M no frame is seen, and 1/s need not grow beyond what half precision holds.
        weight = 1 / span.clamp(min=1 / self.settings.max_span)
        return query, found * weight[..., None].to(found.dtype), span

    def temperature(self, span: torch.Tensor) -> torch.Tensor:
        return 1 - self.settings.temp_scale * span
