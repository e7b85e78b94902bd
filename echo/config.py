"""A run's settings: nested dataclasses, filled from YAML and `key=value` overrides.

Strict: a key that no field bears, or a value of another type than its field's, or outside the
bounds written beside the type, is an error that names the key.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from echo.support.errors import ConfigError
from echo.support.settings import (
    Amount,
    Count,
    Length,
    Positive,
    PositiveAmount,
    Range,
    Share,
    apply_overrides,
    build,
)
from echo.support.yaml import read_yaml

OnError = Literal["raise", "skip"]
Split = Literal["test", "dev"]
Weight = Annotated[float, Range(0, 1000, above=True)]
Speeds = Annotated[list[Annotated[float, Range(0.1, 10)]], Length(1)]
Betas = Annotated[list[Annotated[float, Range(0, 0.999999)]], Length(2, 2)]


@dataclass(frozen=True)
class ModelSettings:
    """The shape of a model trained from scratch; with `init`, the checkpoint gives it instead."""

    d_model: Annotated[int, Range(4)] = 144
    encoder_layers: Positive = 4
    decoder_layers: Positive = 2
    heads: Positive = 6
    ffn_dim: Positive | None = None  # 4 d_model where not given
    n_mels: Positive = 80
    max_seconds: Annotated[float, Range(0.1)] = 30.0  # the longest audio that the encoder takes
    max_tokens: Positive = 448  # the longest transcript that the decoder takes
    dropout: Share = 0.1
    # How much larger than the others the convolutions' weights begin: their output is added to
    # fixed positions, under which small models long hear where they are rather than what is said.
    conv_gain: Annotated[float, Range(0, 100, above=True)] = 2.0
    # Whether cross-attention reads the encoder's positions once more, as no Whisper does.
    cross_positions: bool = False
    # {encoder: ..., decoder: ...}, each a form of echo.attention.forms, its settings, or a list.
    attention: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TokenizerSettings:
    """The tokenizer trained on the run's transcripts; with `init`, the checkpoint's is used."""

    kind: Literal["characters", "bpe"] = "characters"
    size: Positive | None = None  # BPE's vocabulary


@dataclass(frozen=True)
class AugmentSettings:
    """What is done to training audio."""

    speed: Speeds = field(default_factory=lambda: [0.9, 1.0, 1.1])  # factors, one at random
    freq_masks: Count = 1  # SpecAugment: how many bands are masked,
    freq_mask_width: Count = 20  # and how wide one is at the most, in mel bins
    time_masks: Count = 2  # how many stretches of time,
    time_mask_width: Count = 20  # how long one is at the most, in frames,
    time_mask_share: Share = 0.1  # and in shares of the utterance


@dataclass(frozen=True)
class SourceSettings:
    """One of several sources to train on."""

    source: str
    weight: Weight = 1.0  # how many times an epoch takes it; 0.5: a half, then the other half


@dataclass(frozen=True)
class DataSettings:
    """Where utterances come from: `train` and `eval` sources, or a built-in `corpus`."""

    train: str | list[str | SourceSettings] | None = None  # one source, or several to be mixed
    eval: str | None = None
    corpus: Literal["fsdd", "espeak"] | None = None
    root: str | None = None  # where the built-in corpus lies, or is kept
    # What a built-in corpus measures on: its test set, or, to choose settings by, a part of its
    # training set that is then not trained on ("dev").
    split: Split = "test"
    audio_column: str | None = None  # where the columns do not have one of the usual names
    text_column: str | None = None
    speaker_column: str | None = None
    # Of the transcripts, for a multilingual `init`; the checkpoint's own where not given.
    language: str | None = None  # "de" or "german"
    task: Literal["transcribe", "translate"] | None = None
    on_error: OnError = "raise"  # what a bad utterance does
    allow_outside: bool = False  # whether recordings may lie outside of their source's own folder
    streaming: bool = False  # whether a hub data set is read as training goes, as shards always are
    shards_per_block: Positive = 8  # of a stream, to be held, shuffled and batched together
    workers: Count = 1  # processes that decode and augment; 0 for none
    cache: str | None = None  # a folder in which decoded recordings are kept for later epochs
    cache_gigabytes: Amount = 20.0  # what they may take; an hour of audio takes 0.23
    max_batch_seconds: PositiveAmount = 60.0  # of audio in a batch, padded to its longest
    max_batch_size: Positive = 64  # utterances in a batch
    # Silence that follows every utterance and counts as audio: up to so many seconds of both, or
    # none ("batch": padding to the longest of a batch is masked, and changes nothing),
    pad_to: Literal["batch"] | Amount = "batch"
    added_silence: Amount = 0.0  # and so many seconds at the least
    timestamps: Share = 0.0  # share of training examples that teach a Whisper's timestamps
    augment: AugmentSettings = field(default_factory=AugmentSettings)


@dataclass(frozen=True)
class LossSettings:
    ctc_weight: Share | None = None  # 0.3 from scratch and 0 from a checkpoint where not given
    label_smoothing: Share = 0.0
    # Of the loss by which cross-attention looks where the CTC head hears each token.
    alignment_weight: Amount = 0.0
    span_penalty: Amount = 0.0  # on the mean span scale of focused blocks


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters (Hu et al. 2021) in the place of training the checkpoint's own weights."""

    rank: Positive = 16
    alpha: Positive = 32  # what the adapters add is scaled by alpha / rank
    dropout: Share = 0.0
    targets: list[str] = field(default_factory=lambda: ["q_proj", "v_proj"])


@dataclass(frozen=True)
class TrainSettings:
    max_steps: Positive | None = 2000  # null: no limit but max_seconds
    # Seconds of training after which a run stops; the learning-rate schedule then follows the share
    # of these seconds.
    max_seconds: PositiveAmount | None = None
    learning_rate: Amount = 1.5e-3
    schedule: Literal["linear", "cosine"] = "cosine"
    warmup_steps: Count = 100
    weight_decay: Amount = 0.01  # of matrices alone
    betas: Betas = field(default_factory=lambda: [0.9, 0.98])
    max_grad_norm: PositiveAmount = 1.0
    freeze: list[str] = field(default_factory=list)  # modules that stay as they are, by name
    # Of what `init` lacks, as a Whisper's local branches; the others' where not given.
    new_learning_rate: Amount | None = None
    accumulation: Positive = 1  # batches a step
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 where a GPU has it
    log_every: Positive = 20  # steps
    eval_every: Positive = 250
    eval_utterances: Positive = 100  # of the evaluation set, for WER during training
    checkpoint_every: Positive = 500
    patience: Positive | None = None  # evaluations without a better WER, after which training stops
    keep_best: Count = 5  # checkpoints that are kept for their WER
    # Of an exponential moving average of the weights, which is then what is evaluated and written.
    ema_decay: Share | None = None
    # Skipped steps in a row, for a loss that is not finite or memory that ran out, before stopping:
    max_skipped_steps: Count = 10


@dataclass(frozen=True)
class DecodeSettings:
    """How transcripts are decoded for WER."""

    beams: Positive = 1
    ctc_weight: Share = 0.5  # of the CTC head, where the model has one, in choosing tokens
    max_batch_seconds: PositiveAmount = 240.0


@dataclass(frozen=True)
class RunConfig:
    """A whole training run."""

    seed: Annotated[int, Range(0, 2**32 - 1)] = 1
    init: str | None = None  # a Whisper or Echo checkpoint to start from
    model: ModelSettings = field(default_factory=ModelSettings)
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    data: DataSettings = field(default_factory=DataSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    lora: LoraSettings | None = None
    train: TrainSettings = field(default_factory=TrainSettings)
    decode: DecodeSettings = field(default_factory=DecodeSettings)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a run's YAML file and applies `key=value` overrides.

    Raises:
        ConfigError: naming the file or key at fault.
    """
    return build(RunConfig, apply_overrides(read_yaml(path), overrides), str(path))


def load_run_config(run: Path) -> RunConfig:
    """The resolved config that a run folder holds."""
    path = run / "config.yaml"
    if not path.exists():
        raise ConfigError(f"{run}: is not a run folder (it has no config.yaml)")
    return load_config(path)
