"""The state that a focused block keeps between decoder steps."""

from typing import Protocol

import torch


class KeyValueCache(Protocol):
    """The interface of a decoder's cache that a block uses. `transformers`' Cache implements it,
    with one layer per index."""

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends along dimension 2 and returns all keys and values."""
        ...

    def get_seq_length(self, layer_idx: int) -> int:
        """Returns the number of positions in a layer."""
        ...


class LayerCache:
    """One block's part of a decoder's cache.

    Besides the global keys and values, a block stores the terms of its span's mean. It also stores
    its local keys and values if they differ from the global ones. Each is an extra layer of the
    same cache, so they are all reordered, cropped and repeated together.
    """

    layers_per_block = 3  # the cache needs this many layers per block

    def __init__(self, cache: KeyValueCache, layer_idx: int, layers: int) -> None:
        self.cache = cache
        self.layer_idx = layer_idx
        self.layers = layers

    @property
    def past(self) -> int:
        """The number of positions before the current ones."""
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
