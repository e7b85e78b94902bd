"""Weighted means of the weights of models of one shape.

Between a model and what was fine-tuned from it lies one that keeps most of what both know (Wortsman
et al. 2022, arXiv 2109.01903; for speech, Vander Eeckt and Van hamme 2022, arXiv 2210.15282).
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import WhisperConfig

from echo.checkpoints.card import CARD_FILE, merged_card
from echo.checkpoints.convert import untied_weights
from echo.checkpoints.load import echo_config, model_folder
from echo.checkpoints.pretrained import PretrainedFolder, StoredTensor
from echo.checkpoints.validate import check_generation_config, check_weights
from echo.model.language import language_of_text
from echo.model.model import EchoConfig, EchoForConditionalGeneration
from echo.support.errors import ConfigError, DataError
from echo.support.files import new_folder, whole_folder

# What decides how weights are used, besides their names and shapes and the attention.
ALIKE = (
    "encoder_attention_heads",
    "decoder_attention_heads",
    "activation_function",
    "scale_embedding",
    "cross_positions",
)
CLOSE_TO_1 = 1e-6


@dataclass(frozen=True)
class Parent:
    """One of the models that are averaged."""

    source: str  # as it was named
    checkpoint: PretrainedFolder
    config: EchoConfig  # a Whisper's too
    weights: dict[str, StoredTensor]

    @property
    def padding(self) -> tuple[float | None, float]:
        """Seconds to which it pads, None where it does not, and seconds of silence it adds."""
        return self.config.pad_to_seconds, self.config.added_silence


def read_parents(sources: Sequence[str], which: str = "best") -> list[Parent]:
    """Opens models to average: runs, folders of Echo or Whisper models, or hub ids.

    Args:
        which: checkpoint of a run, "best" or "last".

    Raises:
        EchoError: one cannot be read, or has another shape than the first.
    """
    parents = []
    for source in sources:
        checkpoint = PretrainedFolder(model_folder(source, which))
        config = echo_config(checkpoint.config)
        check_weights(checkpoint, EchoForConditionalGeneration, config)
        check_generation_config(checkpoint)
        weights = untied_weights(checkpoint.weights, config)
        parents.append(Parent(source, checkpoint, config, weights))
    for other in parents[1:]:
        difference = different(parents[0], other)
        if difference is not None:
            raise DataError(
                f"{parents[0].source} and {other.source} cannot be averaged: {difference}"
            )
    return parents


def different(one: Parent, other: Parent) -> str | None:
    """The first thing in which two models are not of one shape; None if they are."""
    for stack in ("encoder", "decoder"):
        layers = [getattr(p.config, f"{stack}_attention")() for p in (one, other)]
        if len(layers[0]) != len(layers[1]):
            return f"their {stack}s have {len(layers[0])} and {len(layers[1])} layers"
        for i, (a, b) in enumerate(zip(*layers, strict=True)):
            if a.form != b.form:
                return f"layer {i} of their {stack}s has the attention {a.form} and {b.form}"
            if a != b:
                return f"the attention of layer {i} of their {stack}s has different settings"
    for key in ALIKE:
        a, b = getattr(one.config, key), getattr(other.config, key)
        if a != b:
            return f"their {key} is {a} and {b}"
    for first, second in ((one, other), (other, one)):
        for name in first.weights:
            if name not in second.weights:
                return f"only {first.source} has the weight {name}"
    for name, weight in one.weights.items():
        if weight.shape != other.weights[name].shape:
            return f"their weight {name} is of shape {weight.shape} and {other.weights[name].shape}"
    own, others = one.checkpoint.tokenizer(), other.checkpoint.tokenizer()
    if own and others and own.get_vocab() != others.get_vocab():
        return "their tokenizers have different tokens"
    return None


def check_shares(shares: Sequence[float], count: int, key: str) -> None:
    """Checks the weights of so many models.

    Raises:
        ConfigError: there are more or fewer, one is not from 0 to 1, or they do not add up to 1.
    """
    if len(shares) != count:
        raise ConfigError(f"{key} has {len(shares)} numbers for {count} models: give one for each")
    if not all(0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > CLOSE_TO_1:
        raise ConfigError(f"{key} must be numbers from 0 to 1 that add up to 1")


def leader(parents: Sequence[Parent], shares: Sequence[float]) -> Parent:
    """The model with the largest share, of equal ones the last: the mean pads and generates as it
    does. Near a Whisper, a mean still needs the 30 s that it was trained with."""
    return parents[max(range(len(parents)), key=lambda i: (shares[i], i))]


def write_mean(
    parents: Sequence[Parent], shares: Sequence[float], out: Path, note: str = ""
) -> None:
    """Writes the weighted mean of models as a folder: an Echo model, or if all are Whispers a
    Whisper. All but the weights is the `leader`'s.

    Args:
        shares: of the parents, which add up to 1; see `check_shares`. A share of 1 gives that
            model's weights, bit for bit.
        note: Markdown for the card.

    Raises:
        EchoError: the folder is in use, or cannot be written.
    """
    new_folder(out)
    chosen = leader(parents, shares)
    tensors = mean_tensors(parents, shares)
    config: WhisperConfig = chosen.config
    if not any(isinstance(p.checkpoint.config, EchoConfig) for p in parents):
        config = chosen.checkpoint.config
    config = copy.deepcopy(config)
    config.dtype = tensors["model.encoder.layer_norm.weight"].dtype
    language = language_of_text(chosen.checkpoint.generation)
    sources = [parent.source for parent in parents]
    card = merged_card(out.resolve().name, sources, shares, language, note)
    with whole_folder(out) as folder:
        config.save_pretrained(folder)
        chosen.checkpoint.write_companions(folder)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / CARD_FILE).write_text(card, encoding="utf-8")


def mean_tensors(parents: Sequence[Parent], shares: Sequence[float]) -> dict[str, torch.Tensor]:
    """The weighted mean of each weight, in the least precision that holds those of all models. It
    is summed in float32 or better."""
    means = {}
    used = [(p, share) for p, share in zip(parents, shares, strict=True) if share > 0]
    for name in parents[0].weights:
        dtype = parents[0].weights[name].load().dtype
        for parent in parents[1:]:
            dtype = torch.promote_types(dtype, parent.weights[name].load().dtype)
        if len(used) == 1 or not dtype.is_floating_point:
            # Copied, since 1 · x + 0 · y is not x where x is -0.0 or y is not finite.
            means[name] = leader(parents, shares).weights[name].load().to(dtype).clone()
            continue
        exact = torch.promote_types(dtype, torch.float32)
        total = sum(share * parent.weights[name].load(exact) for parent, share in used)
        assert isinstance(total, torch.Tensor)
        means[name] = total.to(dtype)
    return means
