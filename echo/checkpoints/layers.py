"""The layers of a Whisper: fewer of them, for a student, and those whose heads time words."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers import WhisperConfig

from echo.checkpoints.stored import StoredTensor
from echo.support.errors import ConfigError
from echo.support.files import read_object, replace_text


def kept_layers(count: int, wanted: int | None, stack: str) -> list[int]:
    """Returns the numbers of the layers to keep of so many, evenly spaced, with the first and the
    last; the last if only one is wanted. ConfigError if there are not as many."""
    if wanted is None:
        return [*range(count)]
    if not 1 <= wanted <= count:
        raise ConfigError(
            f"{stack} layers to keep are {wanted}, but must be from 1 to {count}, which there are"
        )
    if wanted == 1:
        return [count - 1]
    return [i * (count - 1) // (wanted - 1) for i in range(wanted)]


def with_layers(
    weights: Mapping[str, StoredTensor], kept: Mapping[str, Sequence[int]]
) -> dict[str, StoredTensor]:
    """Returns the weights of a Whisper with these layers of each stack alone."""
    found = {name: tensor for name, tensor in weights.items() if ".layers." not in name}
    for stack, numbers in kept.items():
        for new, old in enumerate(numbers):
            before = f"model.{stack}.layers.{old}."
            found |= {
                f"model.{stack}.layers.{new}.{name.removeprefix(before)}": tensor
                for name, tensor in weights.items()
                if name.startswith(before)
            }
    return found


def keep_alignment_heads(folder: Path, config: WhisperConfig, kept: Sequence[int]) -> None:
    """Renames the heads that time words to those of the layers that are kept; if none is, they are
    those of the upper half of the decoder."""
    path = folder / "generation_config.json"
    if not path.exists() or not (content := read_object(path)).get("alignment_heads"):
        return
    content["alignment_heads"] = [
        [kept.index(layer), head] for layer, head in content["alignment_heads"] if layer in kept
    ] or upper_heads(config)
    replace_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def upper_heads(config: WhisperConfig) -> list[list[int]]:
    """Returns the layer and number of all heads of the upper half of the decoder, which time words
    by default, as in OpenAI's code."""
    layers = range(config.decoder_layers // 2, config.decoder_layers)
    return [[layer, head] for layer in layers for head in range(config.decoder_attention_heads)]
