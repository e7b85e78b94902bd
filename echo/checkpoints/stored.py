"""A Whisper or Echo checkpoint as it is stored, in whatever format, and whether its parts fit.

Loaded as they are, weights that a file lacks would be drawn at random, and ids that mean other
tokens would only show in the transcripts.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

from echo.checkpoints.generation import check_generation
from echo.model.config import EchoConfig
from echo.model.model import EchoForConditionalGeneration
from echo.support.errors import DataError, reason

WEIGHTS_FILE = "model.safetensors"
TIED = "proj_out.weight"  # usually tied to the embeddings, and then not in the file
CTC_HEAD = "ctc_head."  # begins the names of its weights, which no Whisper has
EMBEDDINGS = "model.decoder.embed_tokens.weight"  # what it is tied to
# What `transformers` and torch raise of a config that makes no model.
INVALID = (ValueError, TypeError, KeyError, RuntimeError, AssertionError, ArithmeticError)
# Tokens that the model and the tokenizer must agree on, with the setting that is their id.
SHARED_TOKENS = {
    "<|startoftranscript|>": "decoder_start_token_id",
    "<|endoftext|>": "eos_token_id",
    "<|notimestamps|>": "no_timestamps_token_id",
}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: its shape, how its numbers are read, and what errors call it."""

    shape: tuple[int, ...]
    read: Callable[[], torch.Tensor]
    name: str

    def load(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Reads it, in another precision where one is given. Raises DataError where a number is not
        finite, or becomes so in that precision."""
        tensor = self.read()
        if not tensor.is_floating_point():
            return tensor
        if not is_finite(tensor):
            raise DataError(f"{self.name} holds numbers that are not finite")
        converted = tensor.to(dtype or tensor.dtype)
        if not is_finite(converted):
            raise DataError(f"{self.name} holds numbers that are too large for {dtype}")
        return converted


def is_finite(tensor: torch.Tensor) -> bool:
    # Of 8 bits, torch only converts floats.
    return bool((tensor.float() if tensor.itemsize == 1 else tensor).isfinite().all())


def refuse(place: Path, problems: Iterator[str]) -> None:
    """Raises DataError for the first of the problems of a file or folder, if there is one."""
    for problem in problems:
        raise DataError(f"{place}: {problem}")


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

    def check_model(self, config: WhisperConfig) -> None:
        """Raises DataError where the weights are not those of the model that a config makes, no
        more, no fewer, of its sizes, or the generation config does not fit the model."""
        refuse(self.folder, self.wrong_weights(config))
        if self.generation:
            check_generation(self.folder, self.generation.to_dict(), self.config)

    def wrong_weights(self, config: WhisperConfig) -> Iterator[str]:
        is_echo = isinstance(config, EchoConfig)
        kind: Any = EchoForConditionalGeneration if is_echo else WhisperForConditionalGeneration
        try:
            with torch.device("meta"):
                expected = kind(config).state_dict()
        except INVALID as error:
            yield f"its config describes no valid model ({reason(error)})"
            return
        for key in self.weights:
            if key not in expected:
                yield f"its weight {key} is not part of the model that its config describes"
        for key, value in expected.items():
            if key in self.weights:
                shape, own = tuple(value.shape), self.weights[key].shape
                if own != shape:
                    yield f"its weight {key} is of shape {own}, but its config gives it {shape}"
            elif not (key == TIED and config.tie_word_embeddings):
                yield f"lacks the weight {key} of the model that its config describes"

    def check_tokenizer(self, tokenizer: WhisperTokenizer) -> None:
        """Raises DataError where the tokenizer and the model mean different tokens by their ids."""
        refuse(self.folder, self.wrong_tokens(tokenizer))

    def wrong_tokens(self, tokenizer: WhisperTokenizer) -> Iterator[str]:
        saved = self.generation.to_dict() if self.generation else {}
        named = self.config.to_dict() | {k: v for k, v in saved.items() if v is not None}
        ids = tokenizer.get_vocab()
        last = 0
        for token, key in SHARED_TOKENS.items():
            wanted = named.get(key)
            if wanted is None and key != "no_timestamps_token_id":
                yield f"its configs name no {key}"
            if isinstance(wanted, int):
                last = max(last, wanted)
                if ids.get(token) != wanted:
                    yield f"its {key} is {wanted}, but its tokenizer's {token} is {ids.get(token)}"
        end, own_end = named["eos_token_id"], tokenizer.eos_token_id
        if own_end != end:
            yield f"its eos_token_id is {end}, but its tokenizer ends texts with {own_end}"
        pad = named.get("pad_token_id")
        if pad is not None and tokenizer.decode([pad], skip_special_tokens=True):
            yield f"its pad_token_id is {pad}, which its tokenizer reads as text"
        # Every token of Whisper's text has a lower id than these. More can come after timestamps.
        if lacking := set(range(last)).difference(ids.values()):
            yield f"its tokenizer lacks the token with the id {min(lacking)}"
        size, most = self.config.vocab_size, max(ids.values())
        if most >= size:
            yield f"its tokenizer has a token with the id {most}, but its model has {size} tokens"
        without = named.get("no_timestamps_token_id")
        if without is not None:
            first = tokenizer.decode([without + 1], skip_special_tokens=True)
            if first:
                yield (
                    f"its tokenizer has {first!r} in the place of the timestamp <|0.00|>: add "
                    "tokens after all timestamps"
                )

    def checked_tokenizer(self, config: WhisperConfig) -> WhisperTokenizer | None:
        """Makes all checks for a model of this config, and returns the tokenizer, if there is one.
        Raises DataError where something does not fit."""
        self.check_model(config)
        tokenizer = self.tokenizer()
        if tokenizer is not None:
            self.check_tokenizer(tokenizer)
        return tokenizer
