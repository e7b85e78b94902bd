"""A Whisper or Echo checkpoint as it is stored, in whatever format."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import GenerationConfig, WhisperConfig, WhisperTokenizer

WEIGHTS_FILE = "model.safetensors"
TIED = "proj_out.weight"  # usually tied to the embeddings, and then not in the file
EMBEDDINGS = "model.decoder.embed_tokens.weight"  # what it is tied to


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: its shape, and how its numbers are read."""

    shape: tuple[int, ...]
    read: Callable[[], torch.Tensor]

    def load(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Reads it, in another precision where one is given."""
        tensor = self.read()
        return tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor


class Checkpoint(ABC):
    """A model's folder, read lazily: its weights stay in the file until one of them is asked for.

    Attributes:
        weights: by `WhisperForConditionalGeneration`'s names for them.
    """

    folder: Path
    config: WhisperConfig
    generation: GenerationConfig | None
    weights: dict[str, StoredTensor]

    @abstractmethod
    def tokenizer(self) -> WhisperTokenizer | None:
        """Loads the tokenizer. None if the folder has none."""

    @abstractmethod
    def write_companions(self, target: Path) -> None:
        """Writes everything but config and weights as `from_pretrained` reads it."""

    def untied_weights(self, config: WhisperConfig) -> dict[str, StoredTensor]:
        """Returns all weights but an output projection that only repeats the embeddings it is tied
        to: it is tied again on loading, and `save_pretrained` leaves it out too."""
        repeated = (
            config.tie_word_embeddings
            and TIED in self.weights
            and torch.equal(self.weights[TIED].load(), self.weights[EMBEDDINGS].load())
        )
        return {k: tensor for k, tensor in self.weights.items() if not (repeated and k == TIED)}

    def write_model(
        self, folder: Path, config: WhisperConfig, tensors: Mapping[str, torch.Tensor]
    ) -> None:
        """Writes other weights with this checkpoint's tokenizer and settings into a folder."""
        config.save_pretrained(folder)
        self.write_companions(folder)
        save_file(dict(tensors), folder / WEIGHTS_FILE, metadata={"format": "pt"})
