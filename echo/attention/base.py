"""The base of all focused attention blocks: a global branch sets the span of a local one.

A block replaces the self-attention of a Whisper layer and is called like it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from echo.attention.cache import LayerCache
from echo.attention.global_branch import MultiHeadAttention
from echo.attention.local import dense_band
from echo.attention.settings import FocusedSettings
from echo.attention.windows import Window


class SpanPredictor(nn.Module):
    """Predicts the span scale of each utterance: s = sigmoid(mean_t(w · G_t + b)).

    In the encoder, the mean is over the utterance's valid frames. In the decoder, the mean at
    position t is over the valid positions up to t.
    """

    def __init__(self, dims: int, spans: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dims, spans)

    def contributions(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> (B, spans, T): w · x_t + b, the terms of the mean. The layer is linear, so
        it can be applied before the mean. A decoder only has to cache these terms."""
        contributions = self.linear(x).transpose(1, 2)
        # Half precision is too coarse for long sums.
        return contributions.to(torch.promote_types(contributions.dtype, torch.float32))

    def over_utterance(
        self, contributions: torch.Tensor, valid: torch.Tensor | None
    ) -> torch.Tensor:
        """(B, spans, T) -> (B, spans, 1): the span scale from the mean over valid positions
        (B, T)."""
        if valid is None:
            mean = contributions.mean(-1)
        else:
            share = valid / valid.sum(-1, keepdim=True).clamp(min=1)
            mean = (contributions * share[:, None].to(contributions.dtype)).sum(-1)
        return torch.sigmoid(mean)[..., None]

    def over_past(
        self, contributions: torch.Tensor, valid: torch.Tensor | None, positions: int
    ) -> torch.Tensor:
        """(B, spans, T) -> (B, spans, positions): the span scale at each of the last `positions`,
        from the mean over all valid positions (B, T) up to and including it."""
        if valid is None:
            counts = torch.arange(1, contributions.shape[-1] + 1, device=contributions.device)
        else:
            contributions = contributions.masked_fill(~valid[:, None], 0)
            counts = valid.cumsum(-1).clamp(min=1)[:, None]
        means = contributions.cumsum(-1) / counts
        return torch.sigmoid(means[..., -positions:])


@dataclass(frozen=True)
class Branches:
    """The outputs of both branches for an input (B, T, D), with their queries and keys."""

    global_query: torch.Tensor  # (B, H, T, d)
    global_key: torch.Tensor  # (B, H, K, d)
    global_out: torch.Tensor  # (B, T, D)
    # (B, H, T, d), scaled, and (B, H, K, d). None in forms that do not compare frames.
    local_query: torch.Tensor | None
    local_key: torch.Tensor | None
    local_out: torch.Tensor  # (B, T, D)
    window: Window  # the window over the local keys


class FocusedAttention(nn.Module, ABC):
    """A form of attention: the interface that the rest of Echo uses.

    A subclass is created with (settings, dims, heads, causal, dropout), and must set `settings`
    and `causal`.
    """

    settings_class: ClassVar[type[FocusedSettings]]  # its `form` is the form's name
    # Whether the span predictor gets a gradient. If not, DDP has to look for unused parameters, and
    # a span at its bound needs no warning.
    learns_span: bool = True
    # Whether the block normalises its own input. If so, the layer's norm before it is removed.
    normalises_input: ClassVar[bool] = False
    # Parameters that start as a copy of Whisper's: maps name prefixes in the block to prefixes in
    # Whisper's layer. Parameters with the same names as in Whisper's attention are always copied.
    whisper_names: ClassVar[Mapping[str, str]] = {}

    settings: FocusedSettings
    causal: bool
    # In a decoder these locate the block's part of the cache.
    layer_idx = 0
    layers = 1

    def initial_weights(self) -> dict[str, torch.Tensor]:
        """Returns the initial values, by name, of the parameters that are not initialised as
        Whisper's. It covers only the block's own parameters: modules inside it can have this method
        too. If `settings.local_gain` is 0, as in blocks converted from Whisper, these values must
        silence the local branch."""
        return {}

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        record_map: bool = False,
        cache: Any = None,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Computes one block.

        Args:
            hidden_states: (B, T, D).
            attention_mask: values added to the global scores, or booleans, True where a key may be
                seen. In the encoder (B, 1, 1, T), 0 at valid frames, which come first. In the
                decoder (B, 1, T, past + T); padding comes first, as in a batch of prompts. None if
                there is no padding.
            past_key_values, cache: the decoder's cache, if it runs step by step, by the name that
                `transformers` gives it before or from 5.24 on.
            record_map: whether to call `global_branch.attention_map` with its weights.

        Returns:
            The output (B, T, D) and the span scales: (B, 1 or H, 1) in the encoder, (B, 1 or H, T)
            in the decoder.
        """
        whole = past_key_values if cache is None else cache
        own = None
        if whole is not None:
            whole = getattr(whole, "self_attention_cache", whole)
            own = LayerCache(whole, self.layer_idx, self.layers)
        branches = self.branches(hidden_states, attention_mask, own)
        if record_map:
            query, key = branches.global_query, branches.global_key
            heard = self.global_branch.weights(query, key, attention_mask, self.causal)
            self.global_branch.attention_map(heard)
        return self.join(branches), branches.window.span

    @abstractmethod
    def branches(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Branches:
        """Computes both branches for (B, T, D). `mask` is the `attention_mask` of `forward`."""

    @abstractmethod
    def join(self, branches: Branches) -> torch.Tensor:
        """Combines both branches into the block's output (B, T, D)."""

    @property
    @abstractmethod
    def global_branch(self) -> MultiHeadAttention:
        """The module that computes the global branch."""

    @abstractmethod
    def temperature(self, span: torch.Tensor) -> torch.Tensor:
        """Returns the local softmax temperature, with the span's shape or (1, H, 1)."""

    @abstractmethod
    def gain(self) -> torch.Tensor:
        """Returns the weight of the local branch relative to the global one, a scalar. 0 means
        that the local branch has no effect."""

    def attend_globally(
        self, x: torch.Tensor, mask: torch.Tensor | None, cache: LayerCache | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Computes the global branch of (B, T, D). `mask` is the `attention_mask` of `forward`.

        Returns:
            Its queries (B, H, T, d), all keys and values so far (B, H, K, d), and its output
            (B, T, D) before the output projection.
        """
        branch = self.global_branch
        query, key, value = branch.project(x, 0 if cache is None else cache.past)
        if cache is not None:
            key, value = cache.extend_global(key, value)
        return query, key, value, branch.attend(query, key, value, mask, self.causal)

    def local_weights(self, branches: Branches) -> torch.Tensor:
        """Returns the local branch's attention weights (B, H, T, T) without a cache, for maps."""
        query, key = branches.local_query, branches.local_key
        assert query is not None
        assert key is not None
        return dense_band(query.shape[2], key, key, branches.window).weights(query)

    def valid(self, mask: torch.Tensor | None) -> torch.Tensor | None:
        """Returns a mask (B, K), True at keys that are not padding. None if there is no padding.
        In the decoder the mask comes from the last query, which sees all keys."""
        if mask is None:
            return None
        last = mask[:, 0, -1]
        return last if last.dtype == torch.bool else last == 0

    def lengths(self, x: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor | None:
        """Returns the number of valid frames (B,) of an encoder's input (B, T, D). None in the
        decoder, because its sequences are open-ended."""
        if self.causal:
            return None
        if valid is None:
            return torch.full((x.shape[0],), x.shape[1], device=x.device)
        return valid.sum(-1)

    def starts(self, valid: torch.Tensor | None) -> torch.Tensor | None:
        """Returns the first valid position (B,) of each sequence in a decoder. None if all are 0,
        as always in the encoder."""
        return valid.int().argmax(-1) if self.causal and valid is not None else None

    def predict_span(
        self,
        predictor: SpanPredictor,
        x: torch.Tensor,
        valid: torch.Tensor | None,
        cache: LayerCache | None,
    ) -> torch.Tensor:
        """Predicts span scales from the global branch's output (B, T, D) and the valid keys
        (B, K). In the encoder they are (B, spans, 1), over the utterance. In the decoder they are
        (B, spans, T), over each position's past."""
        contributions = predictor.contributions(x)
        if not self.causal:
            return predictor.over_utterance(contributions, valid)
        if cache is not None:
            contributions = cache.extend_span(contributions)
        return predictor.over_past(contributions, valid, positions=x.shape[1])
