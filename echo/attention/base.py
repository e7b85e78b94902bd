"""What all focused attention blocks share: a global branch that sets the span of a local one.

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
from echo.attention.settings import FocusedSettings
from echo.attention.windows import Window


class SpanPredictor(nn.Module):
    """s = sigmoid(mean_t(w · G_t + b)), for each utterance on its own.

    In the encoder the mean runs over the utterance's valid frames; in the decoder, at position
    t, over the valid positions up to t.
    """

    def __init__(self, dims: int, spans: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dims, spans)

    def contributions(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> (B, spans, T): w · x_t + b, of which the mean is taken. Since the layer is
        linear it may come before the mean, and a decoder need remember only this."""
        contributions = self.linear(x).transpose(1, 2)
        # Half precision would lose the span in long sums.
        return contributions.to(torch.promote_types(contributions.dtype, torch.float32))

    def over_utterance(
        self, contributions: torch.Tensor, valid: torch.Tensor | None
    ) -> torch.Tensor:
        """(B, spans, T) -> (B, spans, 1), the mean over valid positions (B, T)."""
        if valid is None:
            mean = contributions.mean(-1)
        else:
            share = valid / valid.sum(-1, keepdim=True).clamp(min=1)
            mean = (contributions * share[:, None].to(contributions.dtype)).sum(-1)
        return torch.sigmoid(mean)[..., None]

    def over_past(
        self, contributions: torch.Tensor, valid: torch.Tensor | None, positions: int
    ) -> torch.Tensor:
        """(B, spans, T) -> (B, spans, positions): for each of the last `positions`, the mean over
        itself and all before it, where these are valid (B, T)."""
        if valid is None:
            counts = torch.arange(1, contributions.shape[-1] + 1, device=contributions.device)
        else:
            contributions = contributions.masked_fill(~valid[:, None], 0)
            counts = valid.cumsum(-1).clamp(min=1)[:, None]
        means = contributions.cumsum(-1) / counts
        return torch.sigmoid(means[..., -positions:])


@dataclass(frozen=True)
class Branches:
    """Both views of an input (B, T, D), and what was asked of which keys to get them."""

    global_query: torch.Tensor  # (B, H, T, d)
    global_key: torch.Tensor  # (B, H, K, d)
    global_out: torch.Tensor  # (B, T, D)
    local_query: torch.Tensor  # (B, H, T, d), scaled
    local_key: torch.Tensor  # (B, H, K, d)
    local_out: torch.Tensor  # (B, T, D)
    window: Window  # through which the local keys were seen


class FocusedAttention(nn.Module, ABC):
    """A form of the attention: how it is called, and what the rest of Echo knows of it.

    It is made with (settings, dims, heads, causal, dropout), and keeps `settings` and `causal`.
    """

    settings_class: ClassVar[type[FocusedSettings]]  # with the form's name
    # Whether a gradient reaches what predicts the span. Where none does, DDP has to look for unused
    # parameters, and a span at its bound is nothing to warn of.
    learns_span: ClassVar[bool] = True
    # Whether the block normalises its own input; the layer's norm before it is then removed.
    normalises_input: ClassVar[bool] = False
    # What begins as a copy of Whisper's: prefixes of names within the block, and those within
    # Whisper's layer. Parameters with the names of Whisper's attention are copied anyway.
    whisper_names: ClassVar[Mapping[str, str]] = {}

    settings: FocusedSettings
    causal: bool
    # A decoder's block finds its part of the cache by these.
    layer_idx = 0
    layers = 1

    def initial_weights(self) -> dict[str, torch.Tensor]:
        """First values of those parameters that are not drawn at random, by name: only parameters
        of the block itself, since modules inside it can have this method too. With
        `settings.local_gain` at 0, as in blocks made from a Whisper's, they must silence the local
        branch."""
        return {}

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        record_map: bool = False,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Computes one block.

        Args:
            hidden_states: (B, T, D).
            attention_mask: added to the global scores, or True where a key may be seen:
                (B, 1, 1, T) in the encoder, 0 at valid frames, which come first;
                (B, 1, T, past + T) in the decoder, where padding comes first, as in a batch of
                prompts. None where nothing is padding.
            past_key_values: the decoder's cache, if it runs step by step.
            record_map: whether `global_branch.attention_map` is called with its weights.

        Returns:
            The output (B, T, D) and the span scales: (B, 1 or H, 1), in the decoder with a last
            dimension of T.
        """
        cache = None
        if past_key_values is not None:
            cache = LayerCache(
                getattr(past_key_values, "self_attention_cache", past_key_values),
                self.layer_idx,
                self.layers,
            )
        branches = self.branches(hidden_states, attention_mask, cache)
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
        """Looks at (B, T, D) in both ways. `mask` is `forward`'s `attention_mask`."""

    @abstractmethod
    def join(self, branches: Branches) -> torch.Tensor:
        """The block's output (B, T, D)."""

    @property
    @abstractmethod
    def global_branch(self) -> MultiHeadAttention:
        """What attends globally."""

    @abstractmethod
    def temperature(self, span: torch.Tensor) -> torch.Tensor:
        """The local softmax temperature, of the span's shape or (1, H, 1)."""

    @abstractmethod
    def gain(self) -> torch.Tensor:
        """How much the local branch counts beside the global one, a scalar: 0 is silence."""

    def valid(self, mask: torch.Tensor | None) -> torch.Tensor | None:
        """(B, K), True at the keys that are no padding; None where all are. In the decoder the
        last query sees them all."""
        if mask is None:
            return None
        last = mask[:, 0, -1]
        return last if last.dtype == torch.bool else last == 0

    def lengths(self, x: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor | None:
        """(B,) valid frames of an encoder's input (B, T, D); None in the decoder, whose
        sequences are open-ended."""
        if self.causal:
            return None
        if valid is None:
            return torch.full((x.shape[0],), x.shape[1], device=x.device)
        return valid.sum(-1)

    def starts(self, valid: torch.Tensor | None) -> torch.Tensor | None:
        """(B,) the first valid position of each of a decoder's sequences; None where it is 0, as
        it always is in the encoder."""
        return valid.int().argmax(-1) if self.causal and valid is not None else None

    def predict_span(
        self,
        predictor: SpanPredictor,
        x: torch.Tensor,
        valid: torch.Tensor | None,
        cache: LayerCache | None,
    ) -> torch.Tensor:
        """Span scales from the global branch's output (B, T, D) and the keys that are valid
        (B, K): (B, spans, 1) over the utterance, or (B, spans, T) over each position's past in the
        decoder."""
        contributions = predictor.contributions(x)
        if not self.causal:
            return predictor.over_utterance(contributions, valid)
        if cache is not None:
            contributions = cache.extend_span(contributions)
        return predictor.over_past(contributions, valid, positions=x.shape[1])
