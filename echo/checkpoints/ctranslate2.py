"""Reads Whisper models in the CTranslate2 format, which faster-whisper uses, for `transformers`."""

from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperProcessor,
    WhisperTokenizer,
)

from echo.checkpoints.model_bin import Variable, read_variables
from echo.checkpoints.stored import Checkpoint, StoredTensor
from echo.model.language import MULTILINGUAL_SIZE
from echo.support.errors import DataError
from echo.support.files import read_json, read_object

HEAD_DIM = 64  # the same in every Whisper; for files that do not store the number of heads
MAX_INITIAL_TIMESTAMP = 50  # one second, the same in every Whisper; the format does not store it
REFERENCE = "decoder/layer_norm/gamma"  # never quantised, so it has the checkpoint's precision

# CTranslate2's module names, and Whisper's.
STACK_MODULES = {
    "conv1": "conv1",
    "conv2": "conv2",
    "embeddings": "embed_tokens",
    "position_encodings": "embed_positions",
    "layer_norm": "layer_norm",
}
# One CTranslate2 module may hold several of Whisper's, stacked.
LAYER_MODULES = {
    "self_attention/layer_norm": ("self_attn_layer_norm",),
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention/linear_1": ("self_attn.out_proj",),
    "attention/layer_norm": ("encoder_attn_layer_norm",),
    "attention/linear_0": ("encoder_attn.q_proj",),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "attention/linear_2": ("encoder_attn.out_proj",),
    "ffn/layer_norm": ("final_layer_norm",),
    "ffn/linear_0": ("fc1",),
    "ffn/linear_1": ("fc2",),
}
FIELDS = {
    "weight": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "encodings": "weight",
}


class CTranslate2Folder(Checkpoint):
    """A folder with `model.bin`, CTranslate2's own `config.json`, a vocabulary, and optionally
    `tokenizer.json` and `preprocessor_config.json`. Raises DataError where a file is missing or
    damaged, or the model is not a Whisper."""

    generation: GenerationConfig

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = read_object(folder / "config.json")
        variables = read_variables(folder / "model.bin")
        self.vocabulary = read_vocabulary(folder)
        self.config = whisper_config(variables, folder)
        if len(self.vocabulary) != self.config.vocab_size:
            raise DataError(
                f"{folder}: its vocabulary has {len(self.vocabulary)} tokens, but its model.bin "
                f"{self.config.vocab_size}"
            )
        end = self.token("<|endoftext|>")
        shared = {
            "pad_token_id": end,
            "bos_token_id": end,
            "eos_token_id": end,
            "decoder_start_token_id": self.token("<|startoftranscript|>"),
            "begin_suppress_tokens": self.ids("suppress_ids_begin"),
        }
        self.config.update(shared)
        self.generation = self.read_generation_config(shared)
        self.weights = dict(whisper_weights(variables, self.config))

    def token(self, text: str) -> int:
        """Returns the id of a token that every Whisper has."""
        if text not in self.vocabulary:
            raise DataError(f"{self.folder}: its vocabulary lacks {text}")
        return self.vocabulary.index(text)

    def read_generation_config(self, shared: dict[str, Any]) -> GenerationConfig:
        multilingual = self.config.vocab_size >= MULTILINGUAL_SIZE
        languages = {}  # English-only models also list languages, but do not use them
        if multilingual:
            languages = {
                "lang_to_id": {self.vocabulary[i]: i for i in self.ids("lang_ids") or []},
                "task_to_id": {t: self.token(f"<|{t}|>") for t in ("transcribe", "translate")},
            }
        return GenerationConfig(
            alignment_heads=self.settings.get("alignment_heads"),
            suppress_tokens=self.ids("suppress_ids"),
            no_timestamps_token_id=self.token("<|notimestamps|>"),
            prev_sot_token_id=self.token("<|startofprev|>"),
            is_multilingual=multilingual,
            max_initial_timestamp_index=MAX_INITIAL_TIMESTAMP,
            max_length=self.config.max_target_positions,
            return_timestamps=False,
            **shared,
            **languages,
        )

    def ids(self, key: str) -> list[int] | None:
        """Reads a list of token ids from CTranslate2's config. None if it is not there."""
        ids = self.settings.get(key)
        size = len(self.vocabulary)
        if ids is not None and not (isinstance(ids, list) and all(i in range(size) for i in ids)):
            raise DataError(f"{self.folder}/config.json: its {key} are not token ids")
        return ids

    def tokenizer(self) -> WhisperTokenizer | None:
        path = self.folder / "tokenizer.json"
        if not path.exists():
            return None
        read_object(path)
        # The file alone does not say which tokens are Whisper's special ones.
        start, end = self.token("<|startoftranscript|>"), self.token("<|notimestamps|>")
        special = self.vocabulary[start : end + 1]
        try:
            return WhisperTokenizer.from_pretrained(
                self.folder, pad_token="<|endoftext|>", extra_special_tokens=special
            )
        except Exception as error:  # the tokenizers library raises nothing more specific
            raise DataError(f"{path}: is not a Whisper tokenizer ({error})") from None

    def write_companions(self, target: Path) -> None:
        self.generation.save_pretrained(target)
        path = self.folder / "preprocessor_config.json"
        told = read_object(path) if path.exists() else {"feature_size": self.config.num_mel_bins}
        extractor, tokenizer = WhisperFeatureExtractor(**told), self.tokenizer()
        both = WhisperProcessor(extractor, tokenizer) if tokenizer else extractor
        both.save_pretrained(target)


def read_vocabulary(folder: Path) -> list[str]:
    """Returns the tokens in order of their ids."""
    listed, lines = folder / "vocabulary.json", folder / "vocabulary.txt"
    try:
        if listed.exists():
            tokens = read_json(listed)
            if not isinstance(tokens, list) or not all(isinstance(t, str) for t in tokens):
                raise DataError(f"{listed}: is not a list of tokens")
            return tokens
        return lines.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except FileNotFoundError:
        raise DataError(f"{folder}: holds no vocabulary.json or vocabulary.txt") from None
    except ValueError as error:
        raise DataError(f"{folder}: its vocabulary cannot be read ({error})") from None


def whisper_config(variables: dict[str, Variable], folder: Path) -> WhisperConfig:
    """Builds a config from the shapes of the weights: the format stores sizes nowhere else."""

    def shape(name: str, rank: int) -> tuple[int, ...]:
        if name not in variables or len(variables[name].shape) != rank:
            raise DataError(f"{folder}/model.bin: has no {name} of {rank} dimensions")
        return variables[name].shape

    def layers(stack: str) -> int:
        return next(i for i in count() if f"{stack}/layer_{i}/ffn/linear_0/weight" not in variables)

    def heads(stack: str) -> int:
        told = variables.get(f"{stack}/num_heads")
        return int(told.read()) if told else d_model // HEAD_DIM

    vocab_size, d_model = shape("decoder/embeddings/weight", 2)
    shape(REFERENCE, 1)
    return WhisperConfig(
        vocab_size=vocab_size,
        d_model=d_model,
        num_mel_bins=shape("encoder/conv1/weight", 3)[1],
        encoder_layers=layers("encoder"),
        decoder_layers=layers("decoder"),
        encoder_attention_heads=heads("encoder"),
        decoder_attention_heads=heads("decoder"),
        encoder_ffn_dim=shape("encoder/layer_0/ffn/linear_0/weight", 2)[0],
        decoder_ffn_dim=shape("decoder/layer_0/ffn/linear_0/weight", 2)[0],
        max_source_positions=shape("encoder/position_encodings/encodings", 2)[0],
        max_target_positions=shape("decoder/position_encodings/encodings", 2)[0],
        dtype=variables[REFERENCE].dtype,
    )


def whisper_weights(
    variables: dict[str, Variable], config: WhisperConfig
) -> Iterator[tuple[str, StoredTensor]]:
    """Yields Whisper's parameters, unstacked."""
    dtype = variables[REFERENCE].dtype
    for module, parts in modules(config):
        for theirs, ours in FIELDS.items():
            name = f"{module}/{theirs}"
            if name not in variables:
                continue
            variable = variables[name]
            # The converter writes aliases for weights but not for their scales.
            scale = variables.get(f"{variable.name}_scale")
            check_variable(name, variable, scale, len(parts))
            rows = variable.shape[0] // len(parts)
            for i, part in enumerate(parts):
                # Whisper's keys have no bias: in the stacked bias their part is zero.
                if not (part.endswith("k_proj") and ours == "bias"):
                    read = partial(unstack, variable, scale, i * rows, (i + 1) * rows, dtype)
                    place = f"{variable.path}: its {name}"
                    yield f"{part}.{ours}", StoredTensor((rows, *variable.shape[1:]), read, place)


def modules(config: WhisperConfig) -> Iterator[tuple[str, list[str]]]:
    """Yields CTranslate2's modules, each with the Whisper modules that are stacked in it."""
    for stack in ("encoder", "decoder"):
        for theirs, ours in STACK_MODULES.items():
            yield f"{stack}/{theirs}", [f"model.{stack}.{ours}"]
        for i in range(getattr(config, f"{stack}_layers")):
            layer = f"model.{stack}.layers.{i}"
            for theirs, stacked in LAYER_MODULES.items():
                yield f"{stack}/layer_{i}/{theirs}", [f"{layer}.{ours}" for ours in stacked]
    yield "decoder/projection", ["proj_out"]


def check_variable(name: str, variable: Variable, scale: Variable | None, parts: int) -> None:
    if not variable.shape or variable.shape[0] % parts:
        raise DataError(
            f"{variable.path}: {name} is of shape {variable.shape}, whose rows do not divide into "
            f"{parts} equal parts"
        )
    # Quantised weights were multiplied by one factor per row (int8), or one for all (int16).
    if not variable.dtype.is_floating_point and (
        scale is None
        or not scale.dtype.is_floating_point
        or scale.shape not in ((), (1,), variable.shape[:1])
    ):
        raise DataError(f"{variable.path}: {name} is quantised, but has no fitting {name}_scale")


def unstack(
    variable: Variable, scale: Variable | None, start: int, stop: int, dtype: torch.dtype
) -> torch.Tensor:
    """Reads rows of a variable. Quantised rows are converted to the checkpoint's precision."""
    values = variable.rows(start, stop)
    if variable.dtype.is_floating_point or scale is None:
        return values
    factors = scale.rows(start, stop) if scale.shape == variable.shape[:1] else scale.read()
    return (values / factors.float().reshape(-1, *[1] * (values.ndim - 1))).to(dtype)
