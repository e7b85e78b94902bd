"""What a run begins with: the model and tokenizer of a checkpoint, or new ones."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from itertools import chain
from typing import Any, Literal, NamedTuple, cast

from echo.attention.settings import STACK_FORMS
from echo.checkpoints.convert import upcycled
from echo.checkpoints.load import LoadedModel, load_model
from echo.config import (
    CtcSettings,
    EncoderPositions,
    ModelSettings,
    PackSettings,
    RunConfig,
    TokenizerSettings,
)
from echo.data.columns import Joined
from echo.data.corpora.stream import AnyCorpus, MixedCorpus, StreamCorpus
from echo.data.packing import groups
from echo.data.tokenizer import has_timestamps
from echo.data.utterance import Utterance
from echo.model.config import EchoConfig
from echo.model.geometry import ENCODER_STRIDE, FRAMES_PER_SECOND, Limits
from echo.model.language import is_multilingual, spoken_language
from echo.model.model import EchoForConditionalGeneration, ctc_head
from echo.support.errors import ConfigError
from echo.support.settings import given
from echo.train.build import build_model, build_tokenizer, ctc_vocabulary, padding
from echo.train.check import (
    check_contradictions,
    other_attention,
    same_attention,
    setting_for_timestamps,
)

OF_FIRST_WEIGHTS = ("conv_gain",)  # settings of the model that a checkpoint does not keep


class StartingPoint(NamedTuple):
    """A model with its tokenizer, before training."""

    model: EchoForConditionalGeneration
    tokenizer: Any
    heard: Limits | None = None  # what the checkpoint heard before, with its silence; of `init`


def starting_point(
    config: RunConfig, corpus: AnyCorpus, vocabulary: dict[str, Any] | None = None
) -> StartingPoint:
    """The model and tokenizer that a run begins with: those of the checkpoint `init`, or new ones.

    Args:
        vocabulary: of a CTC head that is added, where the run has made it already.

    Raises:
        ConfigError: the settings do not fit the checkpoint, which may need a language; or they
            contradict each other.
        EchoError: the checkpoint cannot be loaded.
    """
    data = config.data
    check_contradictions(config)
    if config.init is None:
        tokenizer = build_tokenizer(config, all_utterances(corpus))
        ctc = config.model.ctc
        head = ctc_vocabulary(ctc, all_utterances(corpus)) if ctc else None
        return StartingPoint(build_model(config, tokenizer, head), tokenizer)
    loaded = load_model(config.init, language=data.language, task=data.task)
    if is_multilingual(loaded.model) and spoken_language(loaded.model.generation_config) is None:
        unnamed = next((u for u in known_utterances(corpus) if u.language is None), None)
        if unnamed:
            raise ConfigError(
                f"data.language must be given, because {config.init} is multilingual and "
                f"{unnamed.where or unnamed.id} has no language"
            )
    check_settings(config, loaded)
    setting = setting_for_timestamps(data)
    if setting and not has_timestamps(loaded.tokenizer):
        raise ConfigError(
            f"{setting} needs a Whisper's timestamps, which {config.init} does not produce: leave "
            "it out"
        )
    if data.pack is not None:
        check_packing(data.pack, config.init, loaded, known_utterances(corpus))
    model = loaded.model
    if other_attention(config, model.config) is not None:
        model = upcycled(model, config.model.attention)
    if config.ctc_weight > 0 and not model.config.ctc:
        settings = head_settings(config, model.config)
        assert settings is not None
        model.config.ctc, model.config.ctc_layers = True, settings.layers
        model.config.ctc_vocabulary = vocabulary or ctc_vocabulary(settings, all_utterances(corpus))
        model.ctc_head = ctc_head(model.config).apply(model._init_weights)
    heard = Limits.of(model.config)
    for key, value in padding(data).items():
        setattr(model.config, key, value)
    return StartingPoint(model, loaded.tokenizer, heard)


def known_utterances(corpus: AnyCorpus) -> Sequence[Utterance]:
    """The training utterances that are known before training: all, also of sources of which an
    epoch takes a part, or a stream's first."""
    match corpus:
        case StreamCorpus():
            return corpus.known_utterances()
        case MixedCorpus():
            return Joined([source.parts for source in corpus.sources])
        case _:
            return corpus.train_epoch(0)


def all_utterances(corpus: AnyCorpus) -> Iterable[Utterance]:
    """Returns all training utterances, of a stream by reading all of it once."""
    if not isinstance(corpus, StreamCorpus):
        return known_utterances(corpus)
    shards = chain.from_iterable(source.parts for source in corpus.sources)
    return (row for shard in shards for row in shard if isinstance(row, Utterance))


def check_packing(
    pack: PackSettings, init: str, loaded: LoadedModel, utterances: Sequence[Utterance]
) -> None:
    """Checks that utterances can be joined into windows.

    Raises:
        ConfigError: the checkpoint hears shorter windows, or no utterances belong together.
    """
    heard = Limits.of(loaded.model.config).max_frames / FRAMES_PER_SECOND
    if pack.seconds > heard:
        raise ConfigError(f"data.pack.seconds is {pack.seconds:g}, but {init} hears {heard:g} s")
    if not pack.across_speakers and len(groups(utterances)) == len(utterances):
        raise ConfigError(
            "data.pack has no effect: no two utterances have the same recording or speaker; name "
            "the column in data.speaker_column, or leave data.pack out"
        )


def check_settings(config: RunConfig, loaded: LoadedModel) -> None:
    """Checks that no setting of the model or tokenizer contradicts the checkpoint, which gives
    both.

    Raises:
        ConfigError: one does.
    """
    actual = described(config, loaded.model.config, loaded.tokenizer)
    for section in ("model", "tokenizer"):
        key = contradiction(getattr(config, section), getattr(actual, section))
        if key is not None:
            value = getattr(getattr(actual, section), key)
            has = "weights of its own" if key in OF_FIRST_WEIGHTS else repr(value)
            raise ConfigError(
                f"{section}.{key} is {getattr(getattr(config, section), key)!r}, but has no effect "
                f"with init: {config.init} has {has}; leave {section}.{key} out"
            )


def contradiction(settings: Any, actual: Any) -> str | None:
    """The first given field in which the settings are not the actual ones, or that no checkpoint
    has. The attention is not compared: a checkpoint can be given another."""
    for field in fields(settings):
        name = field.name
        if name not in given(settings) or name == "attention":
            continue
        if name in OF_FIRST_WEIGHTS or getattr(settings, name) != getattr(actual, name):
            return name
    return None


def is_config_of(config: RunConfig, stored: RunConfig) -> bool:
    """Whether a run that holds the `stored` config was started with this one, of which `init`
    replaces what is not given."""
    if config.init is None:
        return config == stored
    wanted, has = config.model, stored.model
    if replace(config, model=has, tokenizer=stored.tokenizer) != stored:
        return False
    if contradiction(wanted, has) or contradiction(config.tokenizer, stored.tokenizer):
        return False
    layers = {"encoder": has.encoder_layers, "decoder": has.decoder_layers}
    return not wanted.attention or (
        bool(has.attention) and same_attention(wanted.attention, has.attention, layers)
    )


def head_settings(config: RunConfig, model: EchoConfig) -> CtcSettings | None:
    """The settings of the CTC head that a run from the checkpoint `init` trains: those of its own
    head, or where it has none of the one that is added. None without one that has its own tokens,
    and where it is not trained."""
    if config.ctc_weight == 0:
        return None
    if not model.ctc:
        return config.model.ctc or CtcSettings()
    own = model.ctc_vocabulary
    layers = cast(Literal["last", "mean"], model.ctc_layers)
    return CtcSettings(own["kind"], own["size"], layers) if own else None


def described(config: RunConfig, model: EchoConfig, tokenizer: Any) -> RunConfig:
    """The config with what the checkpoint `init` gave a run, in place of settings that say
    nothing."""
    if config.init is None:
        return config
    shape = ModelSettings(
        d_model=model.d_model,
        encoder_layers=model.encoder_layers,
        decoder_layers=model.decoder_layers,
        heads=model.encoder_attention_heads,
        ffn_dim=model.encoder_ffn_dim,
        n_mels=model.num_mel_bins,
        max_seconds=ENCODER_STRIDE * model.max_source_positions / FRAMES_PER_SECOND,
        max_tokens=model.max_target_positions,
        dropout=model.dropout,
        cross_positions=model.cross_positions,
        encoder_positions=cast(EncoderPositions, model.encoder_positions),
        attention={**STACK_FORMS, **(model.attention or {})},
        ctc=head_settings(config, model),
    )
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    written = TokenizerSettings("bpe", len(tokenizer)) if merges else TokenizerSettings()
    return replace(config, model=shape, tokenizer=written)
