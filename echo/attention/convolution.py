"""The convolution form: a depthwise convolution whose reach the global branch predicts."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from echo.attention.base import Branches, SpanPredictor
from echo.attention.cache import LayerCache
from echo.attention.global_branch import merge_heads, split_heads
from echo.attention.local import dense_band, depthwise
from echo.attention.settings import FocusedSettings
from echo.attention.summed import SummedAttention
from echo.attention.windows import AdaptiveWindow, Window
from echo.support.settings import Positive


@dataclass(frozen=True)
class ConvolutionSettings(FocusedSettings):
    form: str = "convolution"
    max_span: Positive = 8
    # Width of the window's soft edge, in positions; null has no window: the reach is `max_span`,
    # and there is no span to learn.
    ramp: Positive | None = 5
    # Where the convolution's values come from: the global branch ("shared"), or a projection of
    # their own ("projected").
    local_input: Literal["shared", "projected"] = "projected"


class ConvolutionAttention(SummedAttention):
    """A convolution in the place of local attention: the weight of a frame depends on its distance
    alone, may be negative, and is learned for each channel.

    The local branch's output is L_i = Σ_j m_ij k_{i-j} ⊙ v_j, with a value projection of its own
    and the adaptive form's window m. That a convolution beside attention helps an encoder is
    Branchformer's finding (Peng et al. 2022, "Branchformer: parallel MLP-attention architectures to
    capture local and global context").
    """

    settings_class = ConvolutionSettings
    whisper_names: ClassVar[Mapping[str, str]] = {"local_v_proj.": "self_attn.v_proj."}

    settings: ConvolutionSettings

    def __init__(
        self,
        settings: ConvolutionSettings,
        dims: int,
        heads: int,
        causal: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(settings, dims, heads, causal, dropout)
        self.learns_span = settings.ramp is not None
        self.span_predictor = SpanPredictor(dims, 1) if self.learns_span else None
        self.rule = AdaptiveWindow(settings.max_span, settings.ramp or 1, causal)
        if settings.local_input == "projected":
            self.local_v_proj = nn.Linear(dims, dims)
        distances = self.rule.left + 1 + self.rule.right
        # By distance, query - key, from the farthest past on, as `conv1d` has it.
        self.kernel = nn.Parameter(torch.empty(dims, distances))
        self.load_state_dict(self.initial_weights(), strict=False)

    def initial_weights(self) -> dict[str, torch.Tensor]:
        most = self.kernel.shape[1] ** -0.5
        kernel = torch.empty_like(self.kernel).uniform_(-most, most)
        return {**super().initial_weights(), "kernel": kernel}

    def branches(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Branches:
        valid = self.valid(mask)
        query, key, local_value, attended = self.attend_globally(x, mask, cache)
        if self.span_predictor is None:
            span = torch.ones(len(x), 1, x.shape[1] if self.causal else 1, device=x.device)
        else:
            span = self.predict_span(self.span_predictor, attended, valid, cache)

        if self.settings.local_input == "projected":
            local_value = split_heads(self.local_v_proj(x), self.heads)
            if cache is not None:
                local_value, _ = cache.extend_local(local_value, local_value)
        local_out = self.convolve(merge_heads(local_value), x.shape[1], span, valid)
        window = Window(self.rule, span, valid)
        return Branches(query, key, attended, None, None, local_out, window)

    def convolve(
        self, value: torch.Tensor, queries: int, span: torch.Tensor, valid: torch.Tensor | None
    ) -> torch.Tensor:
        """Weights the values (B, K, D) around each of the last `queries` positions.

        Args:
            span: span scales, (B, 1, 1) or (B, 1, queries).
            valid: (B, K), True at positions that are not padding. None if all are real.

        Returns:
            (B, queries, D).
        """
        left, right = self.rule.left, self.rule.right
        if valid is not None:
            value = value * valid[..., None].to(value.dtype)
        B, K, D = value.shape
        values = F.pad(value, (0, 0, left, right))
        if queries < K:  # in a decoder with a cache
            values = values[:, K - queries :]
        if self.span_predictor is None:
            return depthwise(values.transpose(1, 2), self.kernel[:, None]).transpose(1, 2)
        distances = torch.arange(left, -right - 1, -1, device=value.device)
        reach = self.rule.weights(
            distances, torch.zeros_like(distances), span.transpose(1, 2), None
        ).to(value.dtype)  # (B, 1 or queries, distances)
        # With one span for a sequence there is a kernel for each channel of each utterance. An
        # exported model, whose number of utterances is not fixed, cannot have that many groups.
        if not self.causal and not torch.compiler.is_exporting():
            channels = values.transpose(1, 2).reshape(1, B * D, -1)
            kernels = (reach * self.kernel).reshape(B * D, 1, -1)
            return depthwise(channels, kernels).view(B, D, queries).transpose(1, 2)
        terms = (
            m[..., None] * self.kernel[:, place] * values.narrow(1, place, queries)
            for place, m in enumerate(reach.unbind(-1))
        )
        return sum(terms, start=torch.zeros_like(value[:, :queries]))

    def local_weights(self, branches: Branches) -> torch.Tensor:
        """Returns how much each distance counts: the mean size of each head's weights in the
        window, made to add up to 1."""
        sizes = self.kernel.detach().abs().unflatten(0, (self.heads, -1)).mean(1)
        # As a bias by distance, which starts at the nearest future, it is all that scores have.
        window = replace(branches.window, relative_bias=sizes.flip(-1).log())
        still = torch.zeros_like(branches.global_query)
        return dense_band(still.shape[2], still, still, window).weights(still)

    def temperature(self, span: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(span)
