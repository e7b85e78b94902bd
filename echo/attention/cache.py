"""What a focused block remembers between steps of a decoder."""

from typing import Protocol

import torch


class KeyValueCache(Protocol):
    """What a block asks of a decoder's cache: `transformers`' Cache, a layer of it per index."""

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends along dimension 2 and returns the whole."""
        ...

    def get_seq_length(self, layer_idx: int) -> int:
        """How many positions a layer holds."""
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

    @property
    def past(self) -> int:
        """How many positions came before."""
        return self.cache.get_seq_length(self.layer_idx)

    def extend_global(
        self, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.cache.update(key, value, self.layer_idx)

    def extend_span(self, contributions: torch.Tensor) -> torch.Tensor:
        """(B, spans, T) -> (B, spans, past + T)."""
        terms = contributions[..., None]
        return self.cache.update(terms, terms[..., :0], self.layer_idx + self.layers)[0][..., 0]

    def extend_local(
        self, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.cache.update(key, value, self.layer_idx + 2 * self.layers)
