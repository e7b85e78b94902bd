"""A run's settings: nested dataclasses, filled from YAML and `key=value` overrides.

An unknown key, a value of a wrong type, or one outside the bounds beside its type is an error that
names the key.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from echo.support.errors import ConfigError
from echo.support.settings import (
    Amount,
    Count,
    Length,
    LowAndHigh,
    Positive,
    PositiveAmount,
    Range,
    Share,
    build_with_overrides,
    resolved,
    to_dict,
)
from echo.support.yaml import flatten, read_yaml

# Far above what any machine trains, and below what overflows.
Layers = Annotated[int, Range(1, 1000)]
Width = Annotated[int, Range(1, 2**20)]
Few = Annotated[int, Range(0, 1000)]
Seconds = Annotated[float, Range(0, 86_400)]
OnError = Literal["raise", "skip"]
EncoderPositions = Literal["sinusoids", "none"]
Split = Literal["test", "dev"]
Tracker = Literal["tensorboard", "wandb", "mlflow", "trackio"]
Weight = Annotated[float, Range(0, 1000, above=True)]
Speeds = Annotated[list[Annotated[float, Range(0.1, 10)]], Length(1)]
Codecs = Annotated[list[Literal["mu-law", "a-law", "gsm"]], Length(1)]
Decibels = Annotated[list[Annotated[float, Range(-100, 100)]], LowAndHigh()]
Betas = Annotated[list[Annotated[float, Range(0, 0.999999)]], Length(2, 2)]
SET_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class SetNames:
    """Names of data sets, which `train.best` and metrics use."""

    def allows(self, value: Mapping[str, str]) -> bool:
        names_fit = (isinstance(name, str) and SET_NAME.fullmatch(name) for name in value)
        return bool(value) and all(names_fit)

    def __str__(self) -> str:
        return "a mapping from names (a letter, then letters, digits, - or _) to data sets"


EvalSets = Annotated[dict[str, str], SetNames()]


@dataclass(frozen=True)
class CtcSettings:
    """A CTC head with a vocabulary of its own."""

    # Its tokens, made of the training transcripts: their characters, or byte-level BPE.
    tokenizer: Literal["characters", "bpe"] = "characters"
    # Largest number of BPE tokens; null is 512.
    size: Width | None = None
    # What it hears: the output of the encoder's last layer, or a learned mean of all layers.
    layers: Literal["last", "mean"] = "last"

    def __post_init__(self) -> None:
        if self.tokenizer == "characters" and self.size is not None:
            raise ValueError("size is for tokenizer=bpe: leave it out, or set both")


@dataclass(frozen=True)
class ModelSettings:
    """The shape of a model trained from scratch; with `init`, the checkpoint gives everything but
    the attention, and settings that contradict it are refused."""

    # Width of every layer's input and output, a multiple of `heads`.
    d_model: Annotated[int, Range(4, 2**16)] = 144
    # Number of encoder layers.
    encoder_layers: Layers = 4
    # Number of decoder layers.
    decoder_layers: Layers = 2
    # Number of attention heads in every layer.
    heads: Width = 6
    # Width of the feed-forward layers; null is 4 times d_model.
    ffn_dim: Width | None = None
    # Number of mel bands in the features.
    n_mels: Annotated[int, Range(1, 1000)] = 80
    # Longest audio that the encoder accepts, in seconds.
    max_seconds: Annotated[float, Range(0.1, 86_400)] = 30.0
    # Longest transcript that the decoder accepts, in tokens.
    max_tokens: Width = 448
    # Dropout probability.
    dropout: Share = 0.1
    # Factor on the convolutions' initial weights; their output is added to fixed positions, which
    # at a factor of 1 drown out the speech for a long time in a small model.
    conv_gain: Annotated[float, Range(0, 100, above=True)] = 2.0
    # Whether cross-attention adds the encoder's positions to its keys; a Whisper does not.
    cross_positions: bool = False
    # Positions added to the encoder's frames: Whisper's sinusoids, or none, for an encoder whose
    # layers all have a rotary_base.
    encoder_positions: EncoderPositions = "sinusoids"
    # Forms of self-attention, {encoder: ..., decoder: ...}: each is a form's name, its settings, or
    # a list with one of these for each layer; a Whisper as `init` is converted to them.
    attention: dict[str, Any] = field(default_factory=dict)
    # Tokens of the CTC head that loss.ctc_weight trains, {tokenizer: characters}; null is the
    # decoder's tokens from scratch, and characters where it is added to a Whisper.
    ctc: CtcSettings | None = None


@dataclass(frozen=True)
class TokenizerSettings:
    """The tokenizer trained on the run's transcripts; with `init`, the checkpoint's is used."""

    # Kind of tokens: the characters of the transcripts, or byte-level BPE.
    kind: Literal["characters", "bpe"] = "characters"
    # Largest number of BPE tokens; null is 512.
    size: Width | None = None


@dataclass(frozen=True)
class NoiseSettings:
    """Noise added to training audio."""

    # Folder of noise recordings (.flac, .wav, .opus, .ogg, .mp3), searched with its subfolders.
    folder: str
    # Probability that noise is added to an utterance.
    probability: Share = 0.5
    # Lowest and highest signal-to-noise ratio in dB, drawn uniformly; the ratio between the power
    # of the utterance, pauses included, and that of the noise.
    snr: Decibels = field(default_factory=lambda: [0.0, 20.0])


@dataclass(frozen=True)
class ReverbSettings:
    """Reverberation of training audio."""

    # Folder of impulse responses (.flac, .wav, .opus, .ogg, .mp3), searched with its subfolders.
    folder: str
    # Probability that reverberation is added to an utterance.
    probability: Share = 0.5


@dataclass(frozen=True)
class CodecSettings:
    """Telephone codecs that training audio goes through."""

    # Probability that an utterance goes through a codec.
    probability: Share = 0.2
    # Codecs to draw from, all at 8 kHz: G.711's mu-law and a-law, and GSM 06.10.
    kinds: Codecs = field(default_factory=lambda: ["mu-law", "a-law", "gsm"])


@dataclass(frozen=True)
class AugmentSettings:
    """Augmentation of training audio."""

    # Factors on the speed; one is drawn for each utterance in each epoch.
    speed: Speeds = field(default_factory=lambda: [0.9, 1.0, 1.1])
    # Number of frequency bands that SpecAugment masks.
    freq_masks: Few = 1
    # Widest frequency mask, in mel bands.
    freq_mask_width: Count = 20
    # Number of stretches of time that SpecAugment masks.
    time_masks: Few = 2
    # Longest time mask, in frames of 10 ms.
    time_mask_width: Count = 20
    # Longest time mask as a share of the utterance.
    time_mask_share: Share = 0.1
    # Reverberation, before noise is added; null adds none.
    reverb: ReverbSettings | None = None
    # Noise; null adds none.
    noise: NoiseSettings | None = None
    # Lowest and highest gain in dB, drawn uniformly for each utterance in each epoch; null leaves
    # levels unchanged.
    gain: Decibels | None = None
    # Telephone codecs, applied last; null uses none.
    codec: CodecSettings | None = None


@dataclass(frozen=True)
class PackSettings:
    """Utterances joined into windows: those of one recording or speaker, with timestamps between
    them, as Whisper was trained; or any, without timestamps."""

    # Longest window in seconds, including the pauses between utterances.
    seconds: PositiveAmount = 30.0
    # Share of an epoch's utterances that are joined into windows; the others stay alone.
    share: Share = 0.5
    # Share of the windows that get the preceding text as a prompt, which has no loss; null is 0.5,
    # and 0 with across_speakers.
    prompt_share: Share | None = None
    # Whether any utterances are joined, in random order and to random lengths, without timestamps:
    # so a model from scratch learns to transcribe longer audio than its utterances.
    across_speakers: bool = False
    # Epochs before any are joined: from scratch, a model learns to align by short utterances.
    after_epochs: Count = 0

    def __post_init__(self) -> None:
        if self.across_speakers and self.prompt_share:
            raise ValueError(
                "prompt_share has no effect with across_speakers, where no text precedes another: "
                "leave it out"
            )


@dataclass(frozen=True)
class SourceSettings:
    """One of several sources to train on."""

    # The data set, in the same form as `data.train`.
    source: str
    # How many times an epoch uses the source; with 0.5 it uses one half, and the next epoch the
    # other.
    weight: Weight = 1.0


@dataclass(frozen=True)
class DataSettings:
    """Where utterances come from: `train` and `eval` sources, or a built-in `corpus`."""

    # Data set to train on, or a list of sources to mix.
    train: str | list[str | SourceSettings] | None = None
    # Data set to measure WER on, a list of those that make one, or several by name,
    # {own: dev.jsonl, general: libri.jsonl}.
    eval: str | list[str] | EvalSets | None = None
    # Built-in corpus to use instead of `train` and `eval`.
    corpus: Literal["fsdd", "espeak"] | None = None
    # Folder that holds the built-in corpus (fsdd), or that it is written to (espeak; null is
    # ~/.cache/echo-asr).
    root: str | None = None
    # Part of a built-in corpus to measure on: its test set, or "dev", utterances held out of its
    # training set for choosing settings.
    split: Split = "test"
    # Column of the recordings; null finds the usual names.
    audio_column: str | None = None
    # Column of the transcripts; null finds the usual names.
    text_column: str | None = None
    # Column of the speakers; null finds the usual names.
    speaker_column: str | None = None
    # Language of the transcripts, such as "de" or "german", for the prompt of a multilingual `init`
    # and the outputs of a model trained from scratch; null is the checkpoint's own, or unknown.
    language: str | None = None
    # Task of a multilingual `init`; null is the checkpoint's own.
    task: Literal["transcribe", "translate"] | None = None
    # Whether an utterance that cannot be used stops the run, or is logged and left out.
    on_error: OnError = "raise"
    # Whether recordings may be outside the folder of the source that names them.
    allow_outside: bool = False
    # Whether a hub data set is streamed during training, as shards always are, instead of
    # downloaded first.
    streaming: bool = False
    # Number of a stream's shards that are held in memory, shuffled and batched together.
    shards_per_block: Positive = 8
    # Number of processes that decode and augment; 0 does both in the training process.
    workers: Annotated[Count, Range(0, 1000)] = 1
    # Folder in which decoded recordings are kept for later epochs; null keeps none.
    cache: str | None = None
    # Largest size of the cache, in gigabytes; an hour of audio takes 0.23.
    cache_gigabytes: Amount = 20.0
    # Most audio in a batch, in seconds, including added silence and padding.
    max_batch_seconds: PositiveAmount = 60.0
    # Most utterances in a batch.
    max_batch_size: Positive = 64
    # Seconds to which every utterance is padded with silence that the model hears, such as
    # Whisper's 30; "batch" pads to the batch's longest utterance, and masks the padding.
    pad_to: Literal["batch"] | Seconds = "batch"
    # Seconds of silence, at least, at the end of every utterance.
    added_silence: Seconds = 0.0
    # Share of training examples that have Whisper's timestamps; windows of `pack` that are not
    # joined across speakers always have them, and a transcript of the most tokens never does.
    timestamps: Share = 0.0
    # How utterances are joined into windows, {seconds: 30, share: 0.5}; null joins none.
    pack: PackSettings | None = None
    # Augmentation of training audio.
    augment: AugmentSettings = field(default_factory=AugmentSettings)


@dataclass(frozen=True)
class TeacherSettings:
    """A trained model, usually a larger one, whose distribution over the next token is learned."""

    # The teacher, a run's folder, or the folder or hub id of a Whisper or Echo model with the same
    # tokens and mel bands.
    model: str
    # Weight of the KL divergence from the teacher's distribution.
    weight: PositiveAmount = 0.8
    # Temperature of both distributions; the divergence is multiplied by its square.
    temperature: PositiveAmount = 2.0


@dataclass(frozen=True)
class LossSettings:
    """What training minimises: cross-entropy and these losses."""

    # Weight of the CTC loss; null is 0.3 from scratch and 0 from a checkpoint. Above 0, an `init`
    # without a CTC head gets one.
    ctc_weight: Share | None = None
    # Share of the probability that label smoothing takes from the correct token.
    label_smoothing: Share = 0.0
    # Weight of the loss that makes cross-attention look where the CTC head hears each token.
    alignment_weight: Amount = 0.0
    # Weight of the mean span scale of focused blocks, which keeps spans short.
    span_penalty: Amount = 0.0
    # Weight of the KL divergence between the decoder's distribution and the starting model's, which
    # keeps what `init` knows; above 0, a second copy of the model is held in memory.
    anchor_kl: Amount = 0.0
    # Teacher to learn from besides the transcripts, {model: openai/whisper-small.en}, which hears
    # the same batches and is held in memory; null has none.
    teacher: TeacherSettings | None = None


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters (Hu et al. 2021), trained instead of the checkpoint's own weights."""

    # Rank of the adapters.
    rank: Width = 16
    # Scale of the adapters: their output is multiplied by alpha / rank, or if rank_stabilised by
    # alpha / sqrt(rank).
    alpha: Positive = 32
    # Whether the scale falls with the square root of the rank, so that high ranks learn as fast as
    # low ones (rsLoRA, Kalajdzievski 2023).
    rank_stabilised: bool = False
    # Whether the length of each row of a weight is trained separately from its direction (DoRA, Liu
    # et al. 2024).
    dora: bool = False
    # Dropout probability at the adapters' input.
    dropout: Share = 0.0
    # Names of the layers that get adapters: linear layers, convolutions or embeddings.
    targets: list[str] = field(default_factory=lambda: ["q_proj", "v_proj"])


@dataclass(frozen=True)
class TrainSettings:
    """How a model is trained: for how long, at which learning rate, and what is written when."""

    # Steps after which training stops; with null, only max_seconds limits it.
    max_steps: Positive | None = 2000
    # Seconds after which training stops, and which the learning-rate schedule then follows; with
    # null, only max_steps limits it.
    max_seconds: PositiveAmount | None = None
    # Optimiser: AdamW; Adafactor, whose state takes very little memory; or Muon for the matrices of
    # hidden layers, with AdamW for all other parameters.
    optimiser: Literal["adamw", "adafactor", "muon"] = "adamw"
    # Highest learning rate; with adafactor relative to the size of each weight (10 to 100 times
    # AdamW's), with muon on AdamW's scale for all parameters.
    learning_rate: Amount = 1.5e-3
    # Learning-rate schedule after the warm-up, down to 0.
    schedule: Literal["linear", "cosine"] = "cosine"
    # Steps over which the learning rate rises from 0.
    warmup_steps: Count = 100
    # Weight decay, for matrices only.
    weight_decay: Amount = 0.01
    # Decay of AdamW's two moving averages; adafactor has none.
    betas: Betas = field(default_factory=lambda: [0.9, 0.98])
    # Norm to which larger gradients are scaled down.
    max_grad_norm: PositiveAmount = 1.0
    # Names of modules whose weights are not trained, such as [model.encoder].
    freeze: list[str] = field(default_factory=list)
    # Learning rate of parameters that a Whisper does not have, such as local branches and adapters;
    # null is learning_rate.
    new_learning_rate: Amount | None = None
    # Factors on the learning rates of modules by name, such as {decoder: 0.1}; of nested modules
    # the inner one's counts, and what is not named has a factor of 1.
    rates: dict[str, Amount] | None = field(default_factory=dict)
    # Number of batches in a step.
    accumulation: Positive = 1
    # Whether layers' activations are recomputed for the gradients instead of kept, which takes less
    # memory and a sixth more time.
    gradient_checkpointing: bool = False
    # Whether layers are compiled by torch.compile, which takes a minute or more at the first
    # batches and needs a C++ compiler on the CPU.
    compile: bool = False
    # Precision of training; "auto" is bf16 on a GPU that supports it, and fp32 otherwise.
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    # Steps between lines of metrics.
    log_every: Positive = 20
    # Steps between evaluations.
    eval_every: Positive = 250
    # Number of utterances of each evaluation set that are decoded to measure WER during training.
    eval_utterances: Positive = 100
    # Steps between checkpoints.
    checkpoint_every: Positive = 500
    # How the best checkpoint is chosen if data.eval has several sets: by the set of this name, or
    # by a weighted mean such as own + 0.5 general; null is the first set.
    best: str | None = None
    # Evaluations without a better WER after which training stops; null disables this.
    patience: Positive | None = None
    # Number of checkpoints with the best WER that are kept.
    keep_best: Count = 5
    # Decay of an exponential moving average of the weights, which is then evaluated and written
    # instead of the weights; null uses no average.
    ema_decay: Share | None = None
    # Trackers that get the curves: TensorBoard in the run's folder, or others, which must be
    # installed and are set up by their own environment variables; [] writes only metrics.jsonl.
    trackers: list[Tracker] = field(default_factory=lambda: ["tensorboard"])
    # Consecutive steps that may be skipped, because the loss is not finite or memory runs out,
    # before the run stops; it stops by the next line of metrics.
    max_skipped_steps: Count = 10


@dataclass(frozen=True)
class DecodeSettings:
    """How transcripts are decoded for WER."""

    # Number of beams; 1 is greedy decoding.
    beams: Annotated[int, Range(1, 1000)] = 1
    # Weight of the CTC head, if the model has one, in choosing tokens; 0 disables it, and null is
    # 0.5, but 0 for a head with tokens of its own.
    ctc_weight: Share | None = None
    # Whether the CTC head alone writes the text, its most probable token in each frame, without
    # the decoder; that shows what the encoder knows.
    ctc_alone: bool = False
    # Most audio in a batch, in seconds, padded to its longest utterance.
    max_batch_seconds: PositiveAmount = 240.0

    def __post_init__(self) -> None:
        if self.ctc_alone and self.beams > 1:
            raise ValueError("beams has no effect with ctc_alone, which takes no search")


@dataclass(frozen=True)
class RunConfig:
    """A whole training run."""

    # Seed of all random numbers.
    seed: Annotated[int, Range(0, 2**32 - 1)] = 1
    # Checkpoint to start from, a folder or hub id of a Whisper or Echo model; null trains from
    # scratch.
    init: str | None = None
    # Shape of a model trained from scratch.
    model: ModelSettings = field(default_factory=ModelSettings)
    # Tokenizer of a model trained from scratch.
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    # Data to train and measure on.
    data: DataSettings = field(default_factory=DataSettings)
    # Parts of the loss.
    loss: LossSettings = field(default_factory=LossSettings)
    # Low-rank adapters of an `init`; null trains the weights themselves.
    lora: LoraSettings | None = None
    # How the model is trained.
    train: TrainSettings = field(default_factory=TrainSettings)
    # How transcripts are decoded for WER.
    decode: DecodeSettings = field(default_factory=DecodeSettings)

    @property
    def ctc_weight(self) -> float:
        """The weight of the CTC loss: by default 0.3 from scratch, 0 from a checkpoint."""
        if self.loss.ctc_weight is not None:
            return self.loss.ctc_weight
        return 0.0 if self.init else 0.3


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a run's YAML file and applies `key=value` overrides.

    Raises:
        ConfigError: naming the file or key at fault.
    """
    return build_with_overrides(RunConfig, read_yaml(path), str(path), overrides)


# What may change when a run is resumed: not what the model, its data or its optimiser are.
CHANGEABLE = (
    *(
        f"train.{name}"
        for name in (
            "max_steps",
            "max_seconds",
            "schedule",
            "warmup_steps",
            "max_grad_norm",
            "accumulation",
            "gradient_checkpointing",
            "compile",
            "precision",
            "log_every",
            "eval_every",
            "eval_utterances",
            "checkpoint_every",
            "patience",
            "keep_best",
            "trackers",
            "max_skipped_steps",
        )
    ),
    "data.workers",
    "data.cache",
    "data.cache_gigabytes",
    "data.on_error",
    "data.max_batch_seconds",
    "data.max_batch_size",
    *(f"decode.{each.name}" for each in fields(DecodeSettings)),
)


def load_run_config(run: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The resolved config that a run folder holds, with overrides to resume it with. The run wrote
    all of it, so only what is not at its default counts as given.

    Raises:
        ConfigError: the folder holds no run, or an override changes what cannot change.
    """
    path = run / "config.yaml"
    if not path.exists():
        raise ConfigError(f"{run}: is not a run folder (it has no config.yaml)")
    stored, config = load_config(path), load_config(path, overrides)
    if key := unchangeable(stored, config):
        raise ConfigError(
            f"{key} cannot change when a run is resumed; start another run with init={run} to "
            "go on from its model"
        )
    return resolved(config)


def unchangeable(before: RunConfig, after: RunConfig) -> str | None:
    """The first setting that differs and cannot change when a run is resumed; None if none does."""
    old, new = flatten(to_dict(before)), flatten(to_dict(after))
    for key in old | new:
        if key not in CHANGEABLE and (key in old, old.get(key)) != (key in new, new.get(key)):
            return key
    return None
