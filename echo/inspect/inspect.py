"""Computes the attention of a model on one recording."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from echo.attention.maps import AttentionMaps, attention_maps, entropy
from echo.attention.settings import AttentionSettings, FocusedSettings
from echo.checkpoints.load import LoadedModel, to_device
from echo.config import DecodeSettings
from echo.data.audio import AudioArray, AudioFile
from echo.data.batch import Batch, Collator
from echo.data.examples import Example, ExampleReader
from echo.data.prompts import Prompts
from echo.data.sound_file import header_duration
from echo.data.utterance import Utterance
from echo.evaluate.decoding import decode_batch
from echo.model.geometry import (
    ENCODER_FRAME_SECONDS,
    SAMPLE_RATE,
    encoder_frames,
    feature_frames,
)
from echo.model.hooks import CallRecorder
from echo.model.language import (
    detected_language,
    is_multilingual,
    set_language,
    spoken_language,
)
from echo.model.model import EchoForConditionalGeneration

Stack = Literal["encoder", "decoder"]
Branch = Literal["global", "local"]
STACKS: tuple[Stack, ...] = ("encoder", "decoder")
BRANCHES: tuple[Branch, ...] = ("global", "local")


@dataclass(frozen=True)
class LayerNumbers:
    """Summary numbers of one layer's self-attention over T positions: encoder frames of the
    recording, or tokens of the transcript. Span and temperature are None in a plain layer."""

    stack: Stack
    index: int
    settings: AttentionSettings
    # (H, T) in nats, for each branch of the layer. NaN at positions that see nothing.
    entropy: Mapping[Branch, torch.Tensor]
    beyond: float  # share of the global branch's weight on the silence after the recording
    span: torch.Tensor | None = None  # (1 or H,) scales; in the decoder, means over positions
    temperature: torch.Tensor | None = None  # (1 or H,); in the decoder, means over positions

    @property
    def name(self) -> str:
        return f"{self.stack}-{self.index}"

    @property
    def unit(self) -> str:
        """The unit of a position."""
        return "frames" if self.stack == "encoder" else "tokens"

    @property
    def span_positions(self) -> torch.Tensor | None:
        """(1 or H,): how far the local branch looks, in encoder frames or tokens."""
        if self.span is None:
            return None
        assert isinstance(self.settings, FocusedSettings)
        return self.span * self.settings.max_span

    @property
    def span_seconds(self) -> torch.Tensor | None:
        """(1 or H,): how far the local branch looks, in seconds. None in the decoder, because
        tokens have no length."""
        frames = self.span_positions if self.stack == "encoder" else None
        return None if frames is None else frames * ENCODER_FRAME_SECONDS

    def to_dict(self) -> dict[str, Any]:
        """Returns the numbers, per head or shared by all heads, in a form that JSON can store."""
        numbers = {
            "span": self.span,
            f"span_{self.unit}": self.span_positions,
            "span_seconds": self.span_seconds,
            "temperature": self.temperature,
            **{f"entropy_{branch}": nats.nanmean(1) for branch, nats in self.entropy.items()},
        }
        found = {key: as_list(each) for key, each in numbers.items() if each is not None}
        about = {"layer": self.name, "form": self.settings.form}
        return {**about, **found, "weight_beyond_recording": self.beyond}


@dataclass(frozen=True)
class Layer:
    """The attention weights of one layer between T positions: encoder frames of the recording, or
    tokens of the transcript. Weights on positions beyond these are left out."""

    numbers: LayerNumbers
    overall: torch.Tensor  # (H, T, T), the global branch
    local: torch.Tensor | None  # (H, T, T)
    cross: torch.Tensor | None  # (H, T, encoder frames), in the decoder


@dataclass(frozen=True)
class Inspection:
    """A model's transcript of a recording, and the inputs of its attention blocks."""

    model: EchoForConditionalGeneration
    audio: str
    seconds: float
    log_mel: torch.Tensor  # (n_mels, frames), without the added silence
    transcript: str
    tokens: list[str]  # the decoder's input tokens, as text
    inputs: Mapping[nn.Module, Mapping[str, Any]]  # each attention block's arguments

    def layers(self) -> Iterator[Layer]:
        """Yields the encoder's layers, then the decoder's. Each is computed only when needed: all
        maps of a large model together would not fit in memory."""
        for stack in STACKS:
            for index in range(len(self.settings(stack))):
                yield self.layer(stack, index)

    @torch.no_grad()
    def layer(self, stack: Stack, index: int) -> Layer:
        """Returns one layer, counted from 0."""
        frames, cross = encoder_frames(self.log_mel.shape[1]), None
        layer = getattr(self.model.model, stack).layers[index]
        own, causal = layer.self_attn, stack == "decoder"
        maps = attention_maps(own, self.inputs[own]["hidden_states"], causal=causal)
        if causal:
            block = layer.encoder_attn
            cross = block.weights(**self.inputs[block])[0, ..., :frames].cpu()
        positions = len(self.tokens) if causal else frames
        return layer_of(stack, index, self.settings(stack)[index], maps, positions, cross)

    def settings(self, stack: Stack) -> Sequence[AttentionSettings]:
        """Returns the settings of each layer's self-attention."""
        config = self.model.config
        return config.encoder_attention() if stack == "encoder" else config.decoder_attention()

    def to_dict(self, layers: Sequence[LayerNumbers]) -> dict[str, Any]:
        """Returns the content of the JSON file: the transcript, the numbers of each layer, and
        the entropy of each encoder frame or token, averaged over heads."""
        return {
            "audio": self.audio,
            "seconds": self.seconds,
            "transcript": self.transcript,
            "tokens": self.tokens,
            "layers": [layer.to_dict() for layer in layers],
            "entropy_over_time": {
                layer.name: {b: as_list(e.nanmean(0)) for b, e in layer.entropy.items()}
                for layer in layers
            },
        }


def inspect_recording(loaded: LoadedModel, path: Path) -> Inspection:
    """Inspects a recording; see `inspect_utterance`."""
    utterance = Utterance(str(path), AudioFile(path), "", header_duration(path))
    return inspect_utterance(loaded, utterance)


def inspect_utterance(loaded: LoadedModel, utterance: Utterance) -> Inspection:
    """Transcribes an utterance, on a GPU if there is one, and inspects the model while it reads
    the utterance and the transcript; see `inspect_example`.

    Raises:
        DataError: the recording cannot be read, or is longer than the encoder accepts.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    reader = ExampleReader.of(model, tokenizer, labelled=False)
    reader.check(utterance)  # check first, so that hours of audio are not decoded in vain
    audio = AudioArray(utterance.audio.load().numpy(), SAMPLE_RATE, str(utterance.audio))
    example = reader.read(replace(utterance, audio=audio))
    to_device(model)
    batch = Collator(tokenizer.pad_token_id)([example])
    assert isinstance(batch, Batch)
    if is_multilingual(model) and spoken_language(model.generation_config) is None:
        # This makes the decoder read the same prompt that it decoded with.
        features = batch.input_features.to(model.device, model.dtype)
        language = detected_language(model, tokenizer, features)
        set_language(model, tokenizer, utterance.id, language, None)
    [transcript] = decode_batch(loaded, batch, DecodeSettings())
    return inspect_example(loaded, example, utterance.id, transcript)


def inspect_example(
    loaded: LoadedModel, example: Example, name: str, transcript: str
) -> Inspection:
    """Records the inputs of all attention blocks, on the model's device, while the decoder reads a
    whole transcript at once. `name` is the recording's."""
    model, tokenizer = loaded.model, loaded.tokenizer
    # Do not use `encode_transcript` here: it rejects text that the tokenizer cannot write, and an
    # untrained model may output half a character.
    text = tokenizer(f" {transcript}", add_special_tokens=False).input_ids
    prompt = Prompts(tokenizer, model.generation_config).ids(example.utterance)
    ids = [*prompt, *text][: model.config.max_target_positions]
    layers = [*model.model.encoder.layers, *model.model.decoder.layers]
    blocks = [layer.self_attn for layer in layers]
    blocks += [layer.encoder_attn for layer in model.model.decoder.layers]
    recorder = CallRecorder({block: block for block in blocks}, lambda _, given, __: given, False)
    with recorder, torch.inference_mode():
        # A batch of one has no padding, and needs no masks.
        model(
            example.features[None].to(model.device, model.dtype),
            decoder_input_ids=torch.tensor([ids], device=model.device),
            use_cache=False,
        )
    return Inspection(
        model,
        name,
        example.seconds,
        example.features[:, : feature_frames(round(example.seconds * SAMPLE_RATE))],
        transcript,
        [tokenizer.decode([i]) for i in ids],
        recorder.kept,
    )


def layer_of(
    stack: Stack,
    index: int,
    settings: AttentionSettings,
    maps: AttentionMaps,
    own: int,
    cross: torch.Tensor | None = None,
) -> Layer:
    """Summarises the maps of a batch of one, and crops them to the first `own` positions."""
    overall = maps.overall[0, :, :own].cpu()
    entropies: dict[Branch, torch.Tensor] = {"global": entropy(overall)}
    overall = over_frames(overall, maps.overall.shape[2], settings)[..., :own]
    local = None
    if maps.local is not None:
        local = maps.local[0, :, :own].cpu()
        entropies["local"] = entropy(local).masked_fill(local.sum(-1) == 0, torch.nan)
        local = local[..., :own]
    beyond = max(0.0, 1 - overall.sum(-1).mean().item())
    # (1, n, 1 or T) -> (n,): means over positions.
    scales = (None if x is None else x[0].mean(-1).cpu() for x in (maps.span, maps.temperature))
    numbers = LayerNumbers(stack, index, settings, entropies, beyond, *scales)
    return Layer(numbers, overall, local, cross)


def over_frames(weights: torch.Tensor, frames: int, settings: AttentionSettings) -> torch.Tensor:
    """(H, Q, K) -> (H, Q, frames). If keys are averages over a `global_stride`, the weight of
    each average is divided equally among its frames."""
    if weights.shape[-1] == frames:
        return weights
    assert isinstance(settings, FocusedSettings)
    stride = max(settings.global_stride, -(-frames // settings.max_global_keys))
    average = torch.arange(frames) // stride
    share = 1 / average.bincount()[average]
    return weights[..., average] * share


def as_list(numbers: torch.Tensor) -> list[float | None]:
    """(n,) -> a list for JSON. NaN becomes None, because JSON has no NaN."""
    return [None if math.isnan(number) else number for number in numbers.tolist()]
