"""Checks of a run's settings that need no data: they come before a corpus is built and before a
folder is written."""

from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import psutil
import torch

from echo.attention.forms import resolve_attention
from echo.checkpoints.convert import focused_config
from echo.checkpoints.load import echo_config, model_folder
from echo.checkpoints.pretrained import read_config
from echo.checkpoints.stored import INVALID
from echo.config import DataSettings, RunConfig
from echo.data.named import evaluation_sources
from echo.evaluate.criterion import read_criterion
from echo.model.config import EchoConfig
from echo.model.model import EchoForConditionalGeneration
from echo.model.whisper_names import plain_config
from echo.support.errors import ConfigError, reason
from echo.support.settings import check
from echo.train.build import new_config, settings_named
from echo.train.losses.registry import weighted_losses

Layers = dict[str, int]  # how many, by the stack's name

FOR_SOURCES = (  # settings of `data` that a built-in corpus has no use for
    *("audio_column", "text_column", "speaker_column"),
    *("allow_outside", "streaming", "shards_per_block"),
)


def check_run(config: RunConfig) -> None:
    """Checks a run's settings by themselves, and its model's by making it without weights.
    ConfigError if they contradict each other or are not allowed; EchoError if `init` cannot be
    read."""
    check(config, "config")
    default = RunConfig()
    for key, where in settings_without_effect(config):
        value_of = attrgetter(key)
        if value_of(config) != value_of(default):
            raise ConfigError(f"{key} has no effect {where}: leave it out")
    check_contradictions(config)
    has = None if config.init is None else echo_config(read_config(model_folder(config.init)))
    if config.decode.ctc_alone and config.ctc_weight == 0 and not (has and has.ctc):
        lacking = f", and {config.init} has none" if has else ""
        raise ConfigError(
            f"decode.ctc_alone needs a CTC head{lacking}: set loss.ctc_weight above 0"
        )
    model = other_attention(config, has) if has else new_config(config)
    if model is not None:
        try:
            with settings_named(), torch.device("meta"):
                weights = EchoForConditionalGeneration(model).parameters()
        except (*INVALID, MemoryError) as error:
            raise ConfigError(
                f"model: its settings make no valid model ({reason(error)})"
            ) from None
        size, memory = (
            each / 1e9 for each in (sum(w.nbytes for w in weights), psutil.virtual_memory().total)
        )
        if size > memory:
            raise ConfigError(
                f"model: its weights take {size:,.0f} GB, but the memory has {memory:,.0f} GB: "
                "choose a smaller one"
            )


def check_contradictions(config: RunConfig) -> None:
    """Raises ConfigError for a setting that contradicts another, or needs one that is not given."""
    read_criterion(config.train.best, [*evaluation_sources(config.data)], "train.best")
    for loss in weighted_losses(config):
        if problem := loss.problem(config):
            raise ConfigError(problem)
    if config.model.ctc and config.ctc_weight == 0:
        raise ConfigError("model.ctc has no effect, because loss.ctc_weight is 0: set it too")
    if config.init is not None:
        return
    if setting := setting_for_timestamps(config.data):
        raise ConfigError(
            f"{setting} needs a Whisper's timestamps, which a model trained from scratch does "
            "not produce: leave it out, or give a Whisper as init"
        )
    pack, longest = config.data.pack, config.model.max_seconds
    if pack and pack.seconds > longest:
        raise ConfigError(
            f"data.pack.seconds is {pack.seconds:g}, but model.max_seconds is {longest:g}"
        )
    if config.data.task is not None:
        raise ConfigError("data.task is only for a multilingual init: leave it out")
    if config.lora is not None:
        raise ConfigError("lora needs init: a model from scratch has no weights to adapt")
    if config.tokenizer.kind == "characters" and config.tokenizer.size is not None:
        raise ConfigError("tokenizer.size is for tokenizer.kind=bpe: leave it out, or set both")


def settings_without_effect(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Yields the keys of settings that nothing reads because of another, and which one that is.
    Runs that were begun with one go on."""
    data, augment = config.data, config.data.augment
    if config.ctc_weight == 1:
        yield "loss.label_smoothing", "with loss.ctc_weight=1"
    if config.decode.ctc_alone:
        yield "decode.ctc_weight", "with decode.ctc_alone"
    if data.corpus is None:
        yield "data.root", "without data.corpus"
    else:
        for name in FOR_SOURCES:
            yield f"data.{name}", "with data.corpus"
    if data.cache is None:
        yield "data.cache_gigabytes", "without data.cache"
    if data.pack is not None and data.pack.share == 0:
        yield "data.pack", "with data.pack.share=0"
    if augment.freq_masks == 0:
        yield "data.augment.freq_mask_width", "with data.augment.freq_masks=0"
    if augment.time_masks == 0:
        for name in ("time_mask_width", "time_mask_share"):
            yield f"data.augment.{name}", "with data.augment.time_masks=0"


def setting_for_timestamps(data: DataSettings) -> str | None:
    """Returns the setting that needs a tokenizer with timestamps, where one is given."""
    if data.pack is not None and not data.pack.across_speakers:
        return "data.pack without across_speakers"
    return "data.timestamps" if data.timestamps > 0 else None


def other_attention(config: RunConfig, has: EchoConfig) -> EchoConfig | None:
    """Returns the config of a checkpoint's model with the attention that a run asks for, which a
    Whisper can begin with; None if the model has it already. ConfigError if the attention is not
    allowed or cannot begin as Whisper, or if the model is not a Whisper and has another."""
    wanted = config.model.attention
    layers = {"encoder": has.encoder_layers, "decoder": has.decoder_layers}
    if not wanted or same_attention(wanted, has.attention, layers):
        return None
    blocks = (*has.encoder_attention(), *has.decoder_attention())
    if has.ctc or has.cross_positions or not all(block.is_plain for block in blocks):
        raise ConfigError(
            f"model.attention differs from that of {config.init}, and only a Whisper's can be "
            "changed; leave model.attention out, or begin with a Whisper"
        )
    return focused_config(plain_config(has), wanted)


def same_attention(wanted: dict[str, Any], has: dict[str, Any] | None, layers: Layers) -> bool:
    """Returns whether two attentions, as in `EchoConfig`, are the same in so many layers."""
    with settings_named():
        return resolve_attention(wanted, layers) == resolve_attention(has, layers)
