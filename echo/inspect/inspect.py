"""What a model attends to in one recording."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from echo.attention.maps import AttentionMaps, attention_maps, entropy
from echo.attention.settings import AttentionSettings, FocusedSettings
from echo.checkpoints.load import LoadedModel, to_device
from echo.config import DecodeSettings
from echo.data.audio import AudioArray, AudioFile, header_duration
from echo.data.loading import Batch, Collator, Example, ExampleReader
from echo.data.utterance import Utterance
from echo.evaluate.decoding import decode_batch
from echo.model.geometry import (
    ENCODER_FRAME_SECONDS,
    SAMPLE_RATE,
    Limits,
    encoder_frames,
    feature_frames,
)
from echo.model.language import detected_language, is_multilingual, set_language
from echo.model.model import EchoForConditionalGeneration

Stack = Literal["encoder", "decoder"]
Branch = Literal["global", "local"]


@dataclass(frozen=True)
class LayerNumbers:
    """One layer's self-attention, summed up over the T positions of the recording (encoder
    frames) or transcript (tokens). Span and temperature are None in a plain layer."""

    stack: Stack
    index: int
    settings: AttentionSettings
    # (H, T) in nats, of each branch that the layer has; NaN where a position sees nothing.
    entropy: Mapping[Branch, torch.Tensor]
    beyond: float  # the global branch's share of weight on the silence appended to the recording
    span: torch.Tensor | None = None  # (1 or H,) scales; means over the decoder's positions
    temperature: torch.Tensor | None = None  # (1 or H,), likewise

    @property
    def name(self) -> str:
        return f"{self.stack}-{self.index}"

    @property
    def unit(self) -> str:
        """What a position is."""
        return "frames" if self.stack == "encoder" else "tokens"

    @property
    def span_positions(self) -> torch.Tensor | None:
        """(1 or H,): how far the local branch looks, in encoder frames or in tokens."""
        if self.span is None:
            return None
        assert isinstance(self.settings, FocusedSettings)
        return self.span * self.settings.max_span

    @property
    def span_seconds(self) -> torch.Tensor | None:
        """The same in seconds; None in the decoder, whose tokens have no length."""
        frames = self.span_positions
        if frames is None or self.stack == "decoder":
            return None
        return frames * ENCODER_FRAME_SECONDS

    def to_dict(self) -> dict[str, Any]:
        """The numbers of each head, or of all together, as JSON has them."""
        found: dict[str, Any] = {"layer": self.name, "form": self.settings.form}
        for key, numbers in (
            ("span", self.span),
            (f"span_{self.unit}", self.span_positions),
            ("span_seconds", self.span_seconds),
            ("temperature", self.temperature),
        ):
            if numbers is not None:
                found[key] = as_list(numbers)
        for branch, nats in self.entropy.items():
            found[f"entropy_{branch}"] = as_list(nats.nanmean(1))
        return {**found, "weight_beyond_recording": self.beyond}


@dataclass(frozen=True)
class Layer:
    """The attention weights of one layer, from and to the T positions of the recording (encoder
    frames) or transcript (tokens); what goes beyond them is left out."""

    numbers: LayerNumbers
    overall: torch.Tensor  # (H, T, T), the global branch
    local: torch.Tensor | None  # (H, T, T)
    cross: torch.Tensor | None  # (H, T, encoder frames), in the decoder


@dataclass(frozen=True)
class Inspection:
    """A model that has heard a recording and read its own transcript of it."""

    model: EchoForConditionalGeneration
    audio: str
    seconds: float
    log_mel: torch.Tensor  # (n_mels, frames), without the silence appended
    transcript: str
    tokens: list[str]  # what the decoder read, as text
    inputs: Mapping[nn.Module, Mapping[str, Any]]  # what attention blocks were called with

    def layers(self) -> Iterator[Layer]:
        """The encoder's layers and then the decoder's. Each is computed when it is asked for:
        together, the maps of a large model would fill the memory."""
        frames = encoder_frames(self.log_mel.shape[1])
        encoder, decoder = self.model.model.encoder, self.model.model.decoder
        config = self.model.config
        for i, settings in enumerate(config.encoder_attention()):
            maps = self.maps(encoder.layers[i].self_attn, causal=False)
            yield layer_of("encoder", i, settings, maps, frames)
        for i, settings in enumerate(config.decoder_attention()):
            maps = self.maps(decoder.layers[i].self_attn, causal=True)
            cross = self.cross_weights(decoder.layers[i].encoder_attn)[..., :frames]
            yield layer_of("decoder", i, settings, maps, len(self.tokens), cross)

    def to_dict(self, layers: Sequence[LayerNumbers]) -> dict[str, Any]:
        """As JSON has it: what was heard, the numbers of each layer, and the entropies, as means
        over heads, of each encoder frame or token."""
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

    def maps(self, block: nn.Module, causal: bool) -> AttentionMaps:
        return attention_maps(block, self.inputs[block]["hidden_states"], causal=causal)

    @torch.no_grad()
    def cross_weights(self, block: Any) -> torch.Tensor:
        """(H, T, K), of an EchoCrossAttention from tokens to encoder frames."""
        return block.weights(**self.inputs[block])[0].cpu()


def inspect_recording(loaded: LoadedModel, path: Path) -> Inspection:
    """Transcribes a recording, on a GPU where there is one, and remembers what the attention was
    given: in the encoder, and in the decoder as it reads the whole transcript at once.

    Raises:
        DataError: the recording cannot be read, or is longer than the encoder takes.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    example = read_recording(
        ExampleReader(tokenizer, Limits.of(model.config), labelled=False), path
    )
    to_device(model)
    batch = Collator(tokenizer.pad_token_id)([example])
    assert isinstance(batch, Batch)
    if is_multilingual(model) and tokenizer.language is None:
        # So that the decoder reads the prompt that it wrote after.
        features = batch.input_features.to(model.device, model.dtype)
        language = detected_language(model, tokenizer, features)
        set_language(model, tokenizer, str(path), language, None)
    [transcript] = decode_batch(model, tokenizer, batch, DecodeSettings())

    # Not `encode_transcript`, which refuses what the tokenizer cannot write: an untrained model
    # may well spell half a character.
    ids = tokenizer(f" {transcript}").input_ids[:-1][: model.config.max_target_positions]
    layers = [*model.model.encoder.layers, *model.model.decoder.layers]
    blocks = [layer.self_attn for layer in layers]
    blocks += [layer.encoder_attn for layer in model.model.decoder.layers]
    with remembered_inputs(blocks) as inputs, torch.inference_mode():
        # A batch of one has no padding, and needs no masks.
        model(
            batch.input_features.to(model.device, model.dtype),
            decoder_input_ids=torch.tensor([ids], device=model.device),
            use_cache=False,
        )
    return Inspection(
        model,
        str(path),
        example.seconds,
        example.features[:, : feature_frames(round(example.seconds * SAMPLE_RATE))],
        transcript,
        [tokenizer.decode([i]) for i in ids],
        inputs,
    )


def read_recording(reader: ExampleReader, path: Path) -> Example:
    utterance = Utterance(str(path), AudioFile(path), "", header_duration(path))
    reader.check(utterance)  # so that what is hours too long is not decoded first
    samples = utterance.audio.load()
    audio = AudioArray(samples.numpy(), SAMPLE_RATE, str(path))
    return reader.read(replace(utterance, audio=audio))


@contextmanager
def remembered_inputs(blocks: list[nn.Module]) -> Iterator[dict[nn.Module, dict[str, Any]]]:
    """What attention blocks are called with while this lasts, by name: `hidden_states` (B, T, D),
    and, in cross-attention, what is attended to."""
    inputs = {}

    def remember(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs[block] = {"hidden_states": args[0], **kwargs} if args else kwargs

    handles = [block.register_forward_pre_hook(remember, with_kwargs=True) for block in blocks]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()


def layer_of(
    stack: Stack,
    index: int,
    settings: AttentionSettings,
    maps: AttentionMaps,
    own: int,
    cross: torch.Tensor | None = None,
) -> Layer:
    """Sums up the maps of a batch of one, and cuts them to the first `own` positions."""
    overall = maps.overall[0, :, :own].cpu()
    entropies: dict[Branch, torch.Tensor] = {"global": entropy(overall)}
    overall = over_frames(overall, maps.overall.shape[2], settings)[..., :own]
    local = None
    if maps.local is not None:
        local = maps.local[0, :, :own].cpu()
        entropies["local"] = entropy(local).masked_fill(local.sum(-1) == 0, torch.nan)
        local = local[..., :own]
    numbers = LayerNumbers(
        stack,
        index,
        settings,
        entropies,
        beyond=max(0.0, 1 - overall.sum(-1).mean().item()),
        span=over_positions(maps.span),
        temperature=over_positions(maps.temperature),
    )
    return Layer(numbers, overall, local, cross)


def over_positions(x: torch.Tensor | None) -> torch.Tensor | None:
    """(1, n, 1 or T) -> (n,), the mean."""
    return None if x is None else x[0].mean(-1).cpu()


def over_frames(weights: torch.Tensor, frames: int, settings: AttentionSettings) -> torch.Tensor:
    """(H, Q, K) -> (H, Q, frames). Where keys are averages over a `global_stride`, each frame
    gets its part of the weight of its average."""
    if weights.shape[-1] == frames:
        return weights
    assert isinstance(settings, FocusedSettings)
    stride = max(settings.global_stride, -(-frames // settings.max_global_keys))
    average = torch.arange(frames) // stride
    share = 1 / average.bincount()[average]
    return weights[..., average] * share


def as_list(numbers: torch.Tensor) -> list[float | None]:
    """(n,) for JSON, which knows no NaN."""
    return [None if math.isnan(number) else number for number in numbers.tolist()]
