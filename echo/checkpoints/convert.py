"""Whisper checkpoints made Echo's, and back.

An Echo model made here computes what its Whisper computes, because the local branch of every
focused block begins at nothing; training moves it from there.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import WhisperConfig

from echo.attention.base import FocusedAttention
from echo.attention.settings import DEFAULT_FORM
from echo.checkpoints.layers import keep_alignment_heads, kept_layers, with_layers
from echo.checkpoints.load import echo_config, open_checkpoint
from echo.checkpoints.stored import CTC_HEAD, Checkpoint, StoredTensor
from echo.model.config import EchoConfig
from echo.model.model import EchoForConditionalGeneration, swap_attention
from echo.model.whisper_names import plain_config, whisper_names
from echo.support.errors import ConfigError
from echo.support.files import new_folder, whole_folder
from echo.support.settings import apply_overrides, merge

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def convert(
    source: str | Path,
    out: str | Path,
    overrides: Sequence[str] = (),
    dtype: str | None = None,
    which: str = "best",
    layers: Mapping[str, int | None] | None = None,
) -> WhisperConfig:
    """Writes a Whisper checkpoint as an Echo model folder with the same output, or an Echo model
    whose blocks are all plain as a Whisper folder with the same weights. With fewer `layers` it is
    a student, to be trained with `loss.teacher`.

    Tensors go from file to file, so that memory holds the weights once at the most.

    Args:
        source: a run, or a folder or a hub id of `transformers` or of CTranslate2.
        out: the folder to write; it must not exist, or be empty.
        overrides: the attention that a Whisper is given: `attention.encoder=...` and
            `attention.decoder=...` as in `EchoConfig`, `attention.FIELD=...` for the encoder's
            blocks of the default form, or YAML files such as those in `configs/attention`. Keys may
            begin with `model.attention` too, as they do in a run's config.
        dtype: "float32", "float16" or "bfloat16"; None leaves every tensor as it is.
        which: checkpoint of a run, "best" or "last".
        layers: how many layers of the "encoder" and the "decoder" to keep, evenly spaced, with the
            first and the last; None or no entry keeps all.

    Returns:
        The config that was written, of the kind that was made.

    Raises:
        EchoError: the source cannot be read or does not fit together, the settings cannot begin
            as Whisper, or the folder cannot be written. Nothing is left of it then.
    """
    out = Path(out).absolute()
    new_folder(out)
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"dtype is {dtype!r}, but must be one of: {', '.join(DTYPES)}")
    precision = DTYPES[dtype] if dtype else None
    checkpoint = open_checkpoint(source, which)
    whole = plain_config(checkpoint.config)
    kept = {
        stack: kept_layers(getattr(whole, f"{stack}_layers"), (layers or {}).get(stack), stack)
        for stack in ("encoder", "decoder")
    }
    counts = {f"{stack}_layers": len(numbers) for stack, numbers in kept.items()}
    whisper = WhisperConfig(**{**whole.to_dict(), **counts})
    whisper.dtype = precision or whole.dtype
    if isinstance(checkpoint.config, EchoConfig):
        if overrides:
            raise ConfigError(
                f"{source}: is an Echo model and becomes a Whisper, which has no {overrides[0]}"
            )
        make_plain(checkpoint, str(source))
        config = whisper
    else:
        config = focused_config(whisper, read_attention(overrides))
    if checkpoint.checked_tokenizer(whole) is None:
        logger.warning("%s: holds no tokenizer, and neither will the converted model", source)
    weights = with_layers(checkpoint.untied_weights(whole), kept)
    if isinstance(config, EchoConfig):
        tensors = focused_weights(config, weights, precision)
    else:
        tensors = {key: stored.load(precision) for key, stored in weights.items()}
    with whole_folder(out) as folder:
        checkpoint.write_model(folder, config, tensors)
        if whisper.decoder_layers < whole.decoder_layers:
            keep_alignment_heads(folder, config, kept["decoder"])
    return config


def focused_config(whisper: WhisperConfig, attention: dict[str, Any] | None) -> EchoConfig:
    """Returns a Whisper's config with focused attention. Raises ConfigError where this is not
    allowed, or cannot begin as Whisper."""
    try:
        config = echo_config(whisper, attention)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    for settings in (*config.encoder_attention(), *config.decoder_attention()):
        for field in fields(settings):
            why = settings.not_from_whisper.get(field.name)
            if why and getattr(settings, field.name) != field.default:
                raise ConfigError(f"attention has a {field.name}, {why}")
    return config


def read_attention(overrides: Sequence[str]) -> dict[str, Any] | None:
    """Returns what `EchoConfig.attention` is to be; None if nothing is said of it. Raises
    ConfigError where a setting is not of the attention, or there is no block that it is for."""
    content: dict[str, Any] = {}
    for override in overrides:
        laid = apply_overrides({}, [override])
        # A preset is laid over a run's config, where the attention is the model's.
        model = laid.pop("model", {})
        if not isinstance(model, Mapping):
            raise ConfigError(f"model is {model!r}, not a mapping of settings")
        content = merge(content, merge(laid, model))
    attention = content.pop("attention", None)
    if content:
        raise ConfigError(f"unknown setting {next(iter(content))!r}; there is: attention")
    if attention is None:
        return None
    if not isinstance(attention, Mapping):
        raise ConfigError(f"attention is {attention!r}, not a mapping of settings")
    stacks = {k: attention[k] for k in ("encoder", "decoder") if k in attention}
    settings = {k: v for k, v in attention.items() if k not in stacks}
    if "form" in settings:
        raise ConfigError(
            "attention.form must be given for one stack; write "
            f"attention.encoder={settings['form']}"
        )
    if settings:
        stacks["encoder"] = with_settings(stacks.get("encoder", DEFAULT_FORM), settings)
    return stacks


def with_settings(value: Any, settings: Mapping[str, Any]) -> Any:
    """Gives the blocks of the default form, in an encoder's value, the settings that they do not
    name."""
    blocks = value if isinstance(value, list) else [value]
    blocks = [block if isinstance(block, Mapping) else {"form": block} for block in blocks]
    takes = [block.get("form", DEFAULT_FORM) == DEFAULT_FORM for block in blocks]
    taking = [*compress(blocks, takes)]
    if not taking:
        raise ConfigError(
            f"attention.{next(iter(settings))} is for {DEFAULT_FORM} blocks, and the encoder has "
            "none"
        )
    for name in settings:
        if all(name in block for block in taking):
            raise ConfigError(
                f"attention.{name} has no effect, because every {DEFAULT_FORM} block of "
                f"attention.encoder has its own {name}: change it there"
            )
    blocks = [
        {**settings, **block} if is_default else block
        for block, is_default in zip(blocks, takes, strict=True)
    ]
    return blocks if isinstance(value, list) else blocks[0]


def make_plain(checkpoint: Checkpoint, source: str) -> None:
    """Leaves an Echo model's CTC head behind, with a warning. Raises ConfigError where the model
    has something else that Whisper cannot have."""
    config = checkpoint.config
    assert isinstance(config, EchoConfig)
    for stack, layers in config.resolved_attention().items():
        for i, settings in enumerate(layers):
            if not settings.is_plain:
                raise ConfigError(
                    f"{source}: cannot become a Whisper, because block {i} of its {stack} is "
                    f"{settings.form}, not plain"
                )
    if config.cross_positions:
        raise ConfigError(f"{source}: cannot become a Whisper, because it has cross_positions")
    if config.ctc:
        logger.warning("%s: its CTC head stays behind, because a Whisper has none", source)
    checkpoint.weights = {
        name: weight for name, weight in checkpoint.weights.items() if not name.startswith(CTC_HEAD)
    }


def focused_weights(
    config: EchoConfig, weights: Mapping[str, StoredTensor], dtype: torch.dtype | None
) -> dict[str, torch.Tensor]:
    """Returns an Echo model's weights from a Whisper's; what Whisper lacks is as in a new model,
    and the same every time. All become `dtype`; None leaves Whisper's as they are."""
    with torch.device("meta"):
        model = EchoForConditionalGeneration(config)
    own_dtype = dtype or weights["model.encoder.layer_norm.weight"].load().dtype
    tensors = {}
    for key, name in whisper_names(model).items():
        if name in weights:
            tensor = weights[name].load(dtype)
            tensors[key] = tensor if name == key else tensor.clone()  # it may be taken twice
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for place, block in model.named_modules():
            if isinstance(block, FocusedAttention):
                for name, value in new_block(block, model).items():
                    key = f"{place}.{name}"
                    if key not in tensors:
                        tensors[key] = value.to(own_dtype) if value.is_floating_point() else value
    return tensors


def upcycled(
    model: EchoForConditionalGeneration, attention: dict[str, Any]
) -> EchoForConditionalGeneration:
    """Returns a model whose blocks are all plain with this attention instead, as `convert` would
    write it."""
    config = focused_config(plain_config(model.config), attention)
    config.pad_to_seconds = model.config.pad_to_seconds
    config.added_silence = model.config.added_silence
    weights = {
        name: StoredTensor(tuple(tensor.shape), partial(torch.clone, tensor), f"the weight {name}")
        for name, tensor in model.state_dict().items()
    }
    with torch.device("meta"):
        focused = EchoForConditionalGeneration(config)
    focused.load_state_dict(focused_weights(config, weights, None), assign=True)
    focused.tie_weights()
    focused.generation_config = model.generation_config
    return focused.eval()


def new_block(
    block: FocusedAttention, model: EchoForConditionalGeneration
) -> dict[str, torch.Tensor]:
    """Returns the state of a new block with the same settings, its local branch silenced."""
    layer: Any = nn.Module()
    silent = replace(block.settings, local_gain=0.0)
    swap_attention(layer, silent, model.config, block.causal)
    layer.self_attn.apply(model._init_weights)
    return layer.self_attn.state_dict()
