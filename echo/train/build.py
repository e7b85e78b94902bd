"""Builds a run's model and tokenizer from its config."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig

from echo.config import CtcSettings, DataSettings, RunConfig
from echo.data.columns import cells
from echo.data.tokenizer import train_tokenizer, train_vocabulary
from echo.data.utterance import Utterance
from echo.model.config import EchoConfig
from echo.model.geometry import ENCODER_STRIDE, FRAMES_PER_SECOND
from echo.model.language import transcript_code
from echo.model.model import EchoForConditionalGeneration
from echo.support.errors import ConfigError
from echo.train.first_weights import fresh_model


def build_tokenizer(config: RunConfig, utterances: Iterable[Utterance]) -> Any:
    """A tokenizer trained on the transcripts."""
    return train_tokenizer(
        (text for (text,) in cells(utterances, "text")),
        config.tokenizer.kind,
        config.tokenizer.size,
    )


def new_config(config: RunConfig, **vocabulary: Any) -> EchoConfig:
    """Returns the config of a model from scratch.

    Args:
        vocabulary: the entries that depend on the tokenizer.

    Raises:
        ConfigError: a setting is not allowed.
    """
    model = config.model
    with settings_named():
        return EchoConfig(
            num_mel_bins=model.n_mels,
            d_model=model.d_model,
            encoder_layers=model.encoder_layers,
            decoder_layers=model.decoder_layers,
            encoder_attention_heads=model.heads,
            decoder_attention_heads=model.heads,
            encoder_ffn_dim=model.ffn_dim or 4 * model.d_model,
            decoder_ffn_dim=model.ffn_dim or 4 * model.d_model,
            dropout=model.dropout,
            # Whisper's 0.02 suits its widths; with it narrow models learn several times slower.
            init_std=model.d_model**-0.5,
            max_source_positions=round(model.max_seconds * FRAMES_PER_SECOND) // ENCODER_STRIDE,
            max_target_positions=model.max_tokens,
            suppress_tokens=None,
            begin_suppress_tokens=None,
            attention=model.attention,
            cross_positions=model.cross_positions,
            encoder_positions=model.encoder_positions,
            ctc=config.ctc_weight > 0,
            ctc_layers=model.ctc.layers if model.ctc else "last",
            **padding(config.data),
            **vocabulary,
        )


@contextmanager
def settings_named() -> Iterator[None]:
    """Within, what a model says of its settings is an error that names them as a config does.

    Raises:
        ConfigError: in place of a ValueError.
    """
    try:
        yield
    except ValueError as error:
        separator = "." if str(error).startswith("attention") else ": "  # a key, or a sentence
        raise ConfigError(f"model{separator}{error}") from None


def ctc_vocabulary(settings: CtcSettings, utterances: Iterable[Utterance]) -> dict[str, Any]:
    """Returns the entry of a model's config for a CTC head with tokens of the transcripts."""
    kind, size = settings.tokenizer, settings.size
    vocab, merges = train_vocabulary((u.text for u in utterances), kind, size)
    return {"kind": kind, "size": size, "vocab": vocab, "merges": [*map(list, merges)]}


def build_model(
    config: RunConfig, tokenizer: Any, ctc_vocabulary: dict[str, Any] | None = None
) -> EchoForConditionalGeneration:
    """Returns a model with random weights, drawn from torch's global generator.

    Args:
        ctc_vocabulary: of a CTC head with tokens of its own.

    Raises:
        ConfigError: the settings contradict each other.
    """
    echo_config = new_config(
        config,
        ctc_vocabulary=ctc_vocabulary,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.convert_tokens_to_ids("<|startoftranscript|>"),
    )
    with settings_named():
        built = fresh_model(echo_config, config.model.conv_gain)
    built.generation_config = GenerationConfig(
        pad_token_id=echo_config.pad_token_id,
        bos_token_id=echo_config.bos_token_id,
        eos_token_id=echo_config.eos_token_id,
        decoder_start_token_id=echo_config.decoder_start_token_id,
        max_length=echo_config.max_target_positions,
        is_multilingual=False,
        return_timestamps=False,
        **spoken(config.data),
    )
    return built


def spoken(data: DataSettings) -> dict[str, Any]:
    """The entry of a model's generation config that says what language it is trained on, where that
    is told. Not `language`, by which transformers looks for a token in the prompt."""
    if data.language is None:
        return {}
    return {"transcript_language": transcript_code(data.language, "data.language")}


def padding(data: DataSettings) -> dict[str, Any]:
    """The entries of a model's config that say with how much silence it is trained."""
    return {
        "pad_to_seconds": None if data.pad_to == "batch" else data.pad_to,
        "added_silence": data.added_silence,
    }


def with_weights(
    model: EchoForConditionalGeneration, config: EchoConfig, weights: Mapping[str, torch.Tensor]
) -> EchoForConditionalGeneration:
    """A model of `config` that shares these weights, and generates as `model` does. Draws no random
    numbers, which would change training."""
    with torch.device("meta"):
        plain = EchoForConditionalGeneration(config)
    plain.load_state_dict(weights, assign=True)
    plain.tie_weights()
    plain.generation_config = model.generation_config
    return plain
