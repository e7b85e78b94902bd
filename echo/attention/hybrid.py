"""The hybrid and scaled forms: hard windows over the normalised input itself.

The span acts through floor(), and is a constant in the temperature. So its predictor gets no
gradient and never learns. In the adaptive form it learns.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from echo.attention.base import Branches, FocusedAttention, SpanPredictor
from echo.attention.cache import LayerCache
from echo.attention.global_branch import MultiHeadAttention, merge_heads, split_heads
from echo.attention.local import local_attention
from echo.attention.settings import FocusedSettings, LocalKernel, TempScale
from echo.attention.windows import HardWindow, Window, span_temperature
from echo.support.settings import Positive


@dataclass(frozen=True)
class HybridSettings(FocusedSettings):
    form: str = "hybrid"
    # How strongly the span moves the softmax temperature (c).
    temp_scale: TempScale = 0.01
    # Whether longer spans are sharper, instead of shorter ones.
    sharpen_longer: bool = False
    # Kernel of the local branch; "flex" is PyTorch's compiled flex_attention, for CUDA.
    local_kernel: LocalKernel = "blocks"
    # Widest local window (W), in positions.
    window: Positive = 32
    # Largest relative distance (R), in positions.
    max_dist: Positive = 128

    def __post_init__(self) -> None:
        # If a window were longer than its attended part, the frames in between would be lost.
        for bound in ("max_span", "max_dist"):
            if self.window > getattr(self, bound):
                raise ValueError(
                    f"window ({self.window}) must not exceed {bound} ({getattr(self, bound)}): "
                    "frames beyond it would be lost"
                )


@dataclass(frozen=True)
class ScaledSettings(HybridSettings):
    form: str = "scaled"
    max_span: Positive = 128
    temp_scale: TempScale = 0.1
    # Not used: the temperature always falls with the span.
    sharpen_longer: Literal[False] = False
    window: Positive = 16


class BranchProjection(nn.Linear):
    """Joins the local output L and the global output G: W_p [L ; G] + b_p."""

    def __init__(self, dims: int, local_gain: float) -> None:
        super().__init__(2 * dims, dims)
        self.local_gain = local_gain
        self.load_state_dict(self.initial_weights())

    def initial_weights(self) -> dict[str, torch.Tensor]:
        """Returns a new model's weights: the global branch plus the gain times the local branch."""
        one = torch.eye(self.out_features)
        return {
            "weight": torch.cat([self.local_gain * one, one], dim=1),
            "bias": torch.zeros(self.out_features),
        }


class HybridAttention(FocusedAttention):
    """Scores are q·k · d^-1/4 / τ. The span predictor gets no gradient and does not learn."""

    settings_class: ClassVar[type[HybridSettings]] = HybridSettings
    learns_span = False
    normalises_input = True
    whisper_names: ClassVar[Mapping[str, str]] = {
        "global_attn.": "self_attn.",
        "ln_global.": "self_attn_layer_norm.",
        "ln_local.": "self_attn_layer_norm.",
    }
    score_power = -0.25  # scores are multiplied by d to this power

    settings: HybridSettings

    def __init__(
        self,
        settings: HybridSettings,
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
        self.global_attn = MultiHeadAttention(settings, dims, heads, dropout)
        self.span_predictor = SpanPredictor(dims, 1)
        self.projection = BranchProjection(dims, settings.first_gain)
        self.rule = HardWindow(settings.max_span, settings.window, settings.max_dist, causal)

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
        query, key, _, attended = self.attend_globally(self.ln_global(x), mask, cache)
        global_out = self.global_attn.out_proj(attended)
        span = self.predict_span(self.span_predictor, global_out, valid, cache).detach()

        local = local_key = split_heads(self.ln_local(x), self.heads)
        if cache is not None:
            local_key, _ = cache.extend_local(local, local)
        window = Window(self.rule, span, valid, self.lengths(x, valid), starts=self.starts(valid))
        local_query, local_out, window = self.look(local, local_key, window)
        return Branches(
            query, key, global_out, local_query, local_key, merge_heads(local_out), window
        )

    def join(self, branches: Branches) -> torch.Tensor:
        return self.projection(torch.cat([branches.local_out, branches.global_out], dim=-1))

    def gain(self) -> torch.Tensor:
        of_local, of_global = self.projection.weight.detach().chunk(2, dim=1)
        return of_local.norm() / of_global.norm()

    def look(
        self, query: torch.Tensor, key: torch.Tensor, window: Window
    ) -> tuple[torch.Tensor, torch.Tensor, Window]:
        """Computes the local branch: queries (B, H, Q, d) over keys that are also the values.

        Returns:
            The scaled query and the output, both (B, H, Q, d), and the window that was used.
        """
        query = query * self.scale(window.span).to(query.dtype)
        found = local_attention(query, key, key, window, self.settings.local_kernel)
        return query, found, window

    def scale(self, span: torch.Tensor) -> torch.Tensor:
        """Returns the factor for the scores, (B, 1, 1 or Q, 1)."""
        d = self.global_attn.head_dim
        return (d**self.score_power / self.temperature(span))[..., None]

    def temperature(self, span: torch.Tensor) -> torch.Tensor:
        return span_temperature(span, self.settings.temp_scale, self.settings.sharpen_longer)


class ScaledAttention(HybridAttention):
    """Sharper for longer spans. The shorter the span, the more each frame counts: the attention
    weights are multiplied by 1/s. The span predictor gets no gradient and does not learn."""

    settings_class = ScaledSettings

    def look(
        self, query: torch.Tensor, key: torch.Tensor, window: Window
    ) -> tuple[torch.Tensor, torch.Tensor, Window]:
        query, found, window = super().look(query, key, window)
        # Below 1/M no frame is seen. The clamp keeps 1/s within half precision.
        weight = 1 / window.span.clamp(min=1 / self.settings.max_span)
        return query, found * weight[..., None].to(found.dtype), window

    def temperature(self, span: torch.Tensor) -> torch.Tensor:
        return 1 - self.settings.temp_scale * span
