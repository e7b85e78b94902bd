"""The focused attention blocks: a global branch that sets the span of a local one.

A block replaces the self-attention of a Whisper layer and is called like it.
"""

from abc import ABC, abstractmethod
from typing import Any, Protocol

import torch
from torch import nn

from echo.attention.global_branch import MultiHeadAttention, merge_heads, split_heads
from echo.attention.local import local_attention
from echo.attention.settings import AttentionSettings
from echo.attention.span import SpanPredictor
from echo.attention.windows import AdaptiveWindow, HardWindow, span_temperature


class KeyValueCache(Protocol):
    """What a block asks of a decoder's cache: `transformers`' Cache, a layer of it per index."""

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends along dimension 2 and returns the whole."""
        ...


class LayerCache:
    """One block's part of a decoder's cache.

    Besides the global keys and values a block remembers the terms of its span's mean and, where
    they differ from the global ones, its local keys and values. Each is a further layer of the
    same cache, so whatever reorders, crops or repeats the cache does it to all alike.
    """

    layers_per_block = 3  # what the cache must have room for

    def __init__(self, cache: KeyValueCache, layer_idx: int, layers: int) -> None:
        self.cache = cache
        self.layer_idx = layer_idx
        self.layers = layers

    def extend_global(
        self, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.cache.update(key, value, self.layer_idx)

    def extend_span(self, contributions: torch.Tensor) -> torch.Tensor:
        """(B, spans, T) -> (B, spans, past + T)."""
        terms = contributions[..., None]
        return self.cache.update(terms, terms, self.layer_idx + self.layers)[0][..., 0]

    def extend_local(
        self, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.cache.update(key, value, self.layer_idx + 2 * self.layers)


class FocusedAttention(nn.Module, ABC):
    """What the forms share: how they are called."""

    settings: AttentionSettings
    causal: bool
    # A decoder's block finds its part of the cache by these.
    layer_idx = 0
    layers = 1

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Computes one block.

        Args:
            hidden_states: (B, T, D).
            attention_mask: added to the global scores: (B, 1, 1, T) in the encoder, 0 at valid
                frames; (B, 1, T, past + T) or None in the decoder.
            past_key_values: the decoder's cache, if it runs step by step.

        Returns:
            The output (B, T, D) and the span scales: (B, 1 or H, 1), in the decoder with a last
            dimension of T.
        """
        valid = cache = None
        if attention_mask is not None and not self.causal:
            valid = attention_mask[:, 0, 0] == 0
        if past_key_values is not None:
            cache = LayerCache(
                getattr(past_key_values, "self_attention_cache", past_key_values),
                self.layer_idx,
                self.layers,
            )
        return self.focus(hidden_states, attention_mask, valid, cache)

    @abstractmethod
    def focus(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None,
        valid: torch.Tensor | None,
        cache: LayerCache | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The form's own computation; `valid` is (B, T), None where all frames are."""


class BranchProjection(nn.Linear):
    """W_p [L ; G] + b_p."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.load_state_dict(self.initial_weights())

    def initial_weights(self) -> dict[str, torch.Tensor]:
        """Parameters that let a block begin as its global branch alone."""
        nothing = torch.zeros(self.out_features, self.in_features - self.out_features)
        return {
            "weight": torch.cat([nothing, torch.eye(self.out_features)], dim=1),
            "bias": torch.zeros(self.out_features),
        }


class HybridAttention(FocusedAttention):
    """Hard windows over the normalised input itself ("form 1").

    The span acts through floor() and as a constant in the temperature, so no gradient reaches
    its predictor and it never learns; `AdaptiveAttention` mends that.
    """

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
        self.global_attn = MultiHeadAttention(dims, heads, dropout)
        self.span_predictor = SpanPredictor(dims, 1)
        self.projection = BranchProjection(2 * dims, dims)
        self.window = HardWindow(settings.max_span, settings.window, settings.max_dist, causal)

    def branches(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None = None,
        valid: torch.Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, T, D) -> the local branch (B, T, D), the global one (B, T, D), and the span scales
        (B, 1, 1), in the decoder (B, 1, T)."""
        query, key, value = self.global_attn.project(self.ln_global(x))
        if cache is not None:
            key, value = cache.extend_global(key, value)
        attended = self.global_attn.attend(query, key, value, mask, self.causal)
        global_out = self.global_attn.out_proj(attended)
        span = predict_span(self.span_predictor, global_out, self.causal, valid, cache).detach()

        local = local_keys = split_heads(self.ln_local(x), self.heads)
        if cache is not None:
            local_keys, _ = cache.extend_local(local, local)
        temperature = span_temperature(span, self.settings.temp_scale, self.settings.sharpen_longer)
        local_out = local_attention(
            local,
            local_keys,
            local_keys,
            self.window,
            span,
            scale=self.global_attn.head_dim**-0.25 / temperature,
            valid=valid,
            lengths=None if self.causal else sequence_lengths(x, valid),
        )
        return merge_heads(local_out), global_out, span

    def focus(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None,
        valid: torch.Tensor | None,
        cache: LayerCache | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        local_out, global_out, span = self.branches(x, mask, valid, cache)
        return self.projection(torch.cat([local_out, global_out], dim=-1)), span


class AdaptiveAttention(FocusedAttention, MultiHeadAttention):
    """The default: a soft window whose span is learned, by default over the global branch's own
    query, key and value, so that it costs no projection.

    Each channel of each head adds its local view to its global one with a gain of its own, and
    Whisper's output projection follows: y = W_o (G + gain ⊙ L) + b_o. That is the skeleton's
    W_p [L ; G] + b_p with W_p = [W_o diag(gain), W_o], since both branches mix the same values.
    The gain starts at zero, so that a block with Whisper's weights gives Whisper's output until
    training moves it. The span is read off G before its projection, which is as linear.
    """

    def __init__(
        self,
        settings: AttentionSettings,
        dims: int,
        heads: int,
        causal: bool = False,
        dropout: float = 0.0,
    ) -> None:
        MultiHeadAttention.__init__(self, dims, heads, dropout)
        self.settings = settings
        self.causal = causal
        self.span_predictor = SpanPredictor(dims, heads if settings.span_per_head else 1)
        self.local_gain = nn.Parameter(torch.zeros(dims))
        self.window = AdaptiveWindow(settings.max_span, settings.ramp, causal)
        if settings.local_input == "projected":
            self.local_q_proj = nn.Linear(dims, dims)
            self.local_k_proj = nn.Linear(dims, dims, bias=False)
            self.local_v_proj = nn.Linear(dims, dims)
        if settings.temperature == "learned":
            self.log_temperature = nn.Parameter(torch.zeros(heads))
        self.load_state_dict(self.initial_weights(), strict=False)

    def initial_weights(self) -> dict[str, torch.Tensor]:
        """Parameters that let the block begin as its global branch alone."""
        weights = {"local_gain": torch.zeros_like(self.local_gain)}
        if self.settings.temperature == "learned":
            weights["log_temperature"] = torch.zeros(self.heads)
        return weights

    def focus(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None,
        valid: torch.Tensor | None,
        cache: LayerCache | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        query, key, value = self.project(x)
        if cache is not None:
            key, value = cache.extend_global(key, value)
        attended = self.attend(query, key, value, mask, self.causal)
        span = predict_span(self.span_predictor, attended, self.causal, valid, cache)

        if self.settings.local_input != "shared":
            query, key, value = self.project_local(x)
            if cache is not None:
                key, value = cache.extend_local(key, value)
        local_out = local_attention(
            query,
            key,
            value,
            self.window,
            span,
            scale=self.head_dim**-0.5 / self.temperature(span),
            valid=valid,
        )
        return self.out_proj(attended + self.local_gain * merge_heads(local_out)), span

    def project_local(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, T, D) -> the local branch's query, key and value, each (B, H, T, d)."""
        if self.settings.local_input == "input":
            local = split_heads(x, self.heads)
            return local, local, local
        return (
            split_heads(self.local_q_proj(x), self.heads),
            split_heads(self.local_k_proj(x), self.heads),
            split_heads(self.local_v_proj(x), self.heads),
        )

    def temperature(self, span: torch.Tensor) -> torch.Tensor:
        """The local softmax temperature, of the span's shape or (1, H, 1)."""
        if self.settings.temperature == "learned":
            # Never under 1/4: a head cannot sharpen until a single frame takes all.
            return 0.25 + 0.75 * self.log_temperature.exp()[None, :, None]
        return span_temperature(span, self.settings.temp_scale, self.settings.sharpen_longer)


def predict_span(
    predictor: SpanPredictor,
    x: torch.Tensor,
    causal: bool,
    valid: torch.Tensor | None,
    cache: LayerCache | None,
) -> torch.Tensor:
    """Span scales from the global branch's output (B, T, D): (B, spans, 1) over the utterance, or
    (B, spans, T) over each position's past where `causal`."""
    contributions = predictor.contributions(x)
    if not causal:
        return predictor.over_utterance(contributions, valid)
    if cache is not None:
        contributions = cache.extend_span(contributions)
    return predictor.over_past(contributions, positions=x.shape[1])


def sequence_lengths(x: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
    """(B,): the number of valid positions of each sequence in (B, T, D)."""
    if valid is None:
        return torch.full((x.shape[0],), x.shape[1], device=x.device)
    return valid.sum(-1)


FORMS: dict[str, type[HybridAttention] | type[AdaptiveAttention]] = {
    "hybrid": HybridAttention,
    "adaptive": AdaptiveAttention,
}
