"""The default form: a soft window whose span is learned."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import nn

from echo.attention.base import Branches, SpanPredictor
from echo.attention.cache import LayerCache
from echo.attention.global_branch import merge_heads, split_heads
from echo.attention.local import distance_attention, local_attention
from echo.attention.settings import FocusedSettings, LocalKernel, TempScale
from echo.attention.summed import SummedAttention
from echo.attention.windows import AdaptiveWindow, Window, span_temperature
from echo.support.settings import Positive, Range


@dataclass(frozen=True)
class AdaptiveSettings(FocusedSettings):
    form: str = "adaptive"
    # How strongly the span moves the softmax temperature (c).
    temp_scale: TempScale = 0.01
    # Whether longer spans are sharper, instead of shorter ones.
    sharpen_longer: bool = False
    # Kernel of the local branch; "flex" is PyTorch's compiled flex_attention, for CUDA.
    local_kernel: LocalKernel = "blocks"
    # Width of the window's soft edge, in positions.
    ramp: Positive = 8
    # Whether each head has a span of its own.
    span_per_head: bool = False
    # Number of heads of the local branch, unless its query, key and value are the global branch's;
    # null is the block's.
    local_heads: Positive | None = None
    # Whether a bias for each head and distance is learned and added to local scores.
    relative_bias: bool = False
    # Farthest position, from a query, that a local head attends to at the start of training. The
    # heads begin at different offsets, spread evenly up to it, to both sides or in a decoder to the
    # past, by a relative bias that is learned from there. Null starts without offsets.
    first_offset: Annotated[float, Range(0, above=True)] | None = None
    # What local scores depend on: the content of queries and keys, or the distance alone. By
    # distance, a head is a convolution whose weights are positive and add up to 1.
    local_scores: Literal["content", "distance"] = "content"
    # Temperature of the local branch: computed from the span, or learned for each head.
    temperature: Literal["span", "learned"] = "span"
    # Where the local branch's query, key and value come from: the global branch ("shared"), the
    # block's input ("input"), or projections of their own ("projected").
    local_input: Literal["shared", "input", "projected"] = "shared"

    def __post_init__(self) -> None:
        if self.local_heads is not None and self.local_input == "shared":
            raise ValueError(
                "local_heads needs local_input: projected or input, because shared queries have "
                "the block's heads"
            )
        if self.local_scores == "distance":
            if self.local_input != "projected" or self.first_offset is None:
                raise ValueError(
                    "local_scores: distance needs local_input: projected, for its values, and a "
                    "first_offset"
                )
            if self.temperature == "learned":
                raise ValueError("temperature: learned has no effect with local_scores: distance")


# The lowest first bias: at offsets so improbable that a head would not learn to attend to them,
# another head begins.
LOWEST = -8.0


class AdaptiveAttention(SummedAttention):
    """A soft window with a learned span. By default it reuses the global branch's query, key and
    value, so it needs no projections.

    Its sum equals the hybrid form's W_p [L ; G] + b_p with W_p = [W_o diag(gain), W_o]. The span is
    predicted from G before the output projection. Predictor and projection are both linear, so the
    predictor can learn the same from either.
    """

    settings_class = AdaptiveSettings
    whisper_names: ClassVar[Mapping[str, str]] = {
        "local_q_proj.": "self_attn.q_proj.",
        "local_k_proj.": "self_attn.k_proj.",
        "local_v_proj.": "self_attn.v_proj.",
    }

    settings: AdaptiveSettings

    def __init__(
        self,
        settings: AdaptiveSettings,
        dims: int,
        heads: int,
        causal: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(settings, dims, heads, causal, dropout)
        self.local_heads = settings.local_heads or heads
        if dims % self.local_heads:
            raise ValueError(f"{dims} dimensions do not divide into {self.local_heads} local_heads")
        self.span_predictor = SpanPredictor(dims, self.local_heads if settings.span_per_head else 1)
        self.rule = AdaptiveWindow(settings.max_span, settings.ramp, causal)
        distances = self.rule.left + 1 + self.rule.right
        self.relative_bias = (
            nn.Parameter(torch.empty(self.local_heads, distances))
            if settings.relative_bias or settings.first_offset is not None
            else None
        )
        if settings.local_input == "projected":
            if settings.local_scores == "content":
                self.local_q_proj = nn.Linear(dims, dims)
                self.local_k_proj = nn.Linear(dims, dims, bias=False)
            self.local_v_proj = nn.Linear(dims, dims)
        if settings.temperature == "learned":
            self.log_temperature = nn.Parameter(torch.zeros(self.local_heads))
        self.load_state_dict(self.initial_weights(), strict=False)

    def initial_weights(self) -> dict[str, torch.Tensor]:
        weights = super().initial_weights()
        if self.relative_bias is not None:
            weights["relative_bias"] = self.first_bias()
        if self.settings.temperature == "learned":
            weights["log_temperature"] = torch.zeros(self.local_heads)
        return weights

    def first_bias(self) -> torch.Tensor:
        """Returns the first bias (H, distances): for each head a hill around an offset of its own,
        as wide as the offsets are apart. So attention starts as a convolution (d'Ascoli et al.
        2021, "ConViT: improving vision transformers with soft convolutional inductive biases")."""
        assert self.relative_bias is not None
        farthest = self.settings.first_offset
        if farthest is None:
            return torch.zeros_like(self.relative_bias)
        device = self.relative_bias.device
        nearest = 0.0 if self.causal else -farthest
        centres = torch.linspace(nearest, farthest, self.local_heads, device=device)
        width = (farthest - nearest) / max(1, self.local_heads - 1)
        distances = torch.arange(self.relative_bias.shape[1], device=device) - self.rule.right
        hills = -0.5 * ((distances - centres[:, None]) / width) ** 2
        return hills.clamp(min=LOWEST)

    def branches(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Branches:
        valid = self.valid(mask)
        query, key, value, attended = self.attend_globally(x, mask, cache)
        span = self.predict_span(self.span_predictor, attended, valid, cache)

        if self.settings.local_input == "shared":
            local_query, local_key, local_value = query, key, value
        else:
            local_query, local_key, local_value = self.project_local(x)
            if cache is not None:
                local_key, local_value = cache.extend_local(local_key, local_value)
        scale = (local_query.shape[-1] ** -0.5 / self.temperature(span))[..., None]
        local_query = local_query * scale.to(local_query.dtype)
        window = Window(self.rule, span, valid, relative_bias=self.relative_bias)
        by_distance = self.settings.local_scores == "distance" and not self.causal
        if by_distance and not torch.compiler.is_exporting():  # which has no groups of any number
            local_out = distance_attention(local_value, window)
        else:
            local_out = local_attention(
                local_query, local_key, local_value, window, self.settings.local_kernel
            )
        return Branches(
            query, key, attended, local_query, local_key, merge_heads(local_out), window
        )

    def project_local(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, T, D) -> the local branch's query, key and value, each (B, H, T, d)."""
        if self.settings.local_input == "input":
            local = split_heads(x, self.local_heads)
            return local, local, local
        value = split_heads(self.local_v_proj(x), self.local_heads)
        if self.settings.local_scores == "distance":
            return torch.zeros_like(value), torch.zeros_like(value), value
        return (
            split_heads(self.local_q_proj(x), self.local_heads),
            split_heads(self.local_k_proj(x), self.local_heads),
            value,
        )

    def temperature(self, span: torch.Tensor) -> torch.Tensor:
        if self.settings.temperature == "learned":
            # At least 1/4, so that no head sharpens until a single frame gets all the weight.
            return 0.25 + 0.75 * self.log_temperature.exp()[None, :, None]
        return span_temperature(span, self.settings.temp_scale, self.settings.sharpen_longer)
