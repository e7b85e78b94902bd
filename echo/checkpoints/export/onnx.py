"""ONNX graphs of an Echo or Whisper model: an encoder, a decoder for the prompt, and a decoder for
one more token; and what a program needs beside them to transcribe.

    encoder(input_features, attention_mask) -> last_hidden_state, ctc_logits with a CTC head
    decoder(input_ids, encoder_hidden_states, attention_mask) -> logits, present.*
    decoder_with_past(input_ids, attention_mask, past_key_values.*) -> logits, present.*

Batch, frames, tokens and past are of any length; the number of feature frames is even. The mask
(B, frames) is over the features in all three. `present.N.encoder.*` come from the prompt alone, and
`present.N.decoder.*` replace the past at every step.
"""

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import Dim
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from echo.attention.cache import LayerCache
from echo.checkpoints.export.target import Source, Target, Write
from echo.checkpoints.export.whisper import write_json
from echo.checkpoints.load import load_model
from echo.data.features import filters
from echo.data.tokenizer import ctc_tokenizer
from echo.model.geometry import ENCODER_STRIDE, FRAMES_PER_SECOND
from echo.model.language import known_languages
from echo.model.model import EchoForConditionalGeneration, key_mask, make_room
from echo.support.errors import ConfigError, reason

TOLERANCE = 1e-3  # how far outputs may be from the module's, as a share of the largest
CTC_TOKENIZER_FILE = "ctc_tokenizer.json"
MOST_BYTES = 2**31 - 2**27  # an ONNX file is one protocol buffer, of less than 2 GiB
# What a block keeps in a cache's layers `block`, `block + layers` and `block + 2 * layers`.
KEPT = (("key", "value"), ("span", ""), ("local_key", "local_value"))
OWN = ".decoder."  # is in the name of what a block keeps

Tensors = tuple[torch.Tensor, ...]


class Part(nn.Module):
    """A part of a model that becomes a graph."""

    def __init__(self, model: EchoForConditionalGeneration) -> None:
        super().__init__()
        self.model = model

    def decode(
        self, ids: torch.Tensor, encoded: torch.Tensor, mask: torch.Tensor, cache: Any, **more: Any
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Returns the logits (B, T, V) of tokens, and what the cache holds then, by its names."""
        output = self.model.model.decoder(
            input_ids=ids,
            encoder_hidden_states=encoded,
            encoder_mask=key_mask(mask, encoded.dtype),
            past_key_values=cache,
            use_cache=True,
            **more,
        )
        tensors = named_tensors(cache, self.model.config.decoder_layers)
        return self.model.proj_out(output.last_hidden_state), tensors


class Encoder(Part):
    """Encodes recordings, and gives the logits of a CTC head where the model has one."""

    def forward(self, input_features: torch.Tensor, attention_mask: torch.Tensor) -> Tensors:
        """(B, n_mels, frames), (B, frames) -> (B, frames / 2, D), and with a CTC head
        (B, frames / 2, tokens of the head)."""
        encoded = self.model.model.encoder(input_features, attention_mask)
        if not self.model.config.ctc:
            return (encoded.last_hidden_state,)
        return encoded.last_hidden_state, self.model.ctc_logits(encoded)


class Decoder(Part):
    """Reads a prompt."""

    def forward(
        self,
        input_ids: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor,
    ) -> Tensors:
        """(B, T), (B, F, D), (B, frames) -> the logits (B, T, V) and what the cache holds: of the
        blocks, and then of cross-attention."""
        positions = self.model.model.encoder.positions(encoder_hidden_states)
        logits, tensors = self.decode(
            input_ids,
            encoder_hidden_states,
            attention_mask,
            new_cache(),
            encoder_positions=positions if self.model.config.cross_positions else None,
        )
        return (logits, *tensors.values())


class DecoderWithPast(Part):
    """Reads one more token."""

    def __init__(self, model: EchoForConditionalGeneration, names: Iterable[str]) -> None:
        super().__init__(model)
        self.names = [*names]  # of the cache's tensors

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, past: list[torch.Tensor]
    ) -> Tensors:
        """(B, 1), (B, frames) and the cache's tensors -> the logits (B, 1, V) and the tensors of
        the blocks, one token longer."""
        cache = new_cache()
        layers = self.model.config.decoder_layers
        blocks, cross = cache.self_attention_cache, cache.cross_attention_cache
        make_room(blocks, layers * LayerCache.layers_per_block)
        make_room(cross, layers)
        given = dict(zip(self.names, past, strict=True))
        for index, layer in enumerate(blocks.layers):
            key, value = (f"{index % layers}{OWN}{part}" for part in KEPT[index // layers])
            if key in given:
                layer.update(given[key], given.get(value, given[key][..., :0]))
        for index, layer in enumerate(cross.layers):
            layer.update(given[f"{index}.encoder.key"], given[f"{index}.encoder.value"])
            cache.is_updated[index] = True
        # Cross-attention runs only if it is given states; it reads the cache.
        logits, tensors = self.decode(input_ids, past[-1], attention_mask, cache)
        return (logits, *(tensor for name, tensor in tensors.items() if OWN in name))


def new_cache() -> Any:
    """An empty cache; `transformers` says too little of the types of its layers."""
    return EncoderDecoderCache(DynamicCache(), DynamicCache())


def named_tensors(cache: Any, layers: int) -> dict[str, torch.Tensor]:
    """What the blocks keep, without the values that have no numbers, and then cross-attention, of
    a decoder of so many layers, by their names in the graphs."""
    found = {}
    for index, layer in enumerate(cache.self_attention_cache.layers):
        if layer.is_initialized:
            for part, tensor in zip(KEPT[index // layers], (layer.keys, layer.values), strict=True):
                if tensor.shape[-1]:
                    found[f"{index % layers}{OWN}{part}"] = tensor
    for index, layer in enumerate(cache.cross_attention_cache.layers):
        found |= {f"{index}.encoder.key": layer.keys, f"{index}.encoder.value": layer.values}
    return found


@dataclass(frozen=True)
class Graph:
    """A module to export, and what it takes and returns."""

    name: str
    module: nn.Module
    inputs: tuple[Any, ...]  # an example
    lengths: tuple[Any, ...]  # the dimensions of each input that are of any length
    input_names: list[str]
    output_names: list[str]


@torch.no_grad()
def write_onnx(model: EchoForConditionalGeneration, folder: Path, int8: bool = False) -> None:
    """Writes the graphs of a model into a folder, for `int8` with matrices of 8-bit numbers, with a
    scale for each output of a product, that onnxruntime quantises dynamically. Raises ConfigError
    where a form of attention cannot be exported."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    longest = ENCODER_STRIDE * model.config.max_source_positions
    # Each graph is made from inputs of one length, and checked with those of another.
    frames, others = min(300, longest), min(10, longest)
    made = graphs(model, [frames, frames // 2], 3)
    checked = graphs(model, [others, others], 5)
    for graph, other in zip(made, checked, strict=True):
        path = folder / f"{graph.name}.onnx"
        with quiet():
            program = torch.export.export(graph.module, graph.inputs, dynamic_shapes=graph.lengths)
            written = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                input_names=graph.input_names,
                output_names=graph.output_names,
            )
            assert written is not None
            size = sum(p.numel() * p.element_size() for p in graph.module.parameters())
            written.save(path, external_data=size > MOST_BYTES)
        check_graph(other, path)
        if int8:
            # The embeddings, and the output projection that is tied to them, stay as they are: on
            # tiny.en they cost more word errors than all other matrices together.
            with quiet():
                quantize_dynamic(
                    path,
                    path,
                    per_channel=True,
                    weight_type=QuantType.QInt8,
                    op_types_to_quantize=["MatMul", "Gemm"],
                )


def graphs(model: EchoForConditionalGeneration, frames: list[int], tokens: int) -> list[Graph]:
    """A model's graphs, with random recordings of so many feature frames each, of which the most is
    even, and random tokens, so many of each."""
    config, source = model.config, torch.Generator().manual_seed(0)
    features = torch.randn(len(frames), config.num_mel_bins, max(frames), generator=source)
    mask = (torch.arange(max(frames)) < torch.tensor(frames)[:, None]).long()
    ids = torch.randint(config.vocab_size, (len(frames), tokens), generator=source)
    encoder = Encoder(model).eval()
    hidden = encoder(features, mask)[0]
    cache = new_cache()
    model.model.decoder(input_ids=ids, encoder_hidden_states=hidden, past_key_values=cache)
    past = named_tensors(cache, config.decoder_layers)
    rows, pairs = Dim("rows"), Dim("pairs", min=2, max=config.max_source_positions)
    any_tokens = Dim("tokens", min=2, max=config.max_target_positions)
    any_past = Dim("past", min=1, max=config.max_target_positions - 1)
    any_frames = ENCODER_STRIDE * pairs
    past_lengths = [{0: rows, 2: any_past if OWN in name else pairs} for name in past]
    return [
        Graph(
            "encoder",
            encoder,
            (features, mask),
            ({0: rows, 2: any_frames}, {0: rows, 1: any_frames}),
            ["input_features", "attention_mask"],
            ["last_hidden_state", *(["ctc_logits"] if config.ctc else [])],
        ),
        Graph(
            "decoder",
            Decoder(model).eval(),
            (ids, hidden, mask),
            ({0: rows, 1: any_tokens}, {0: rows, 1: pairs}, {0: rows, 1: any_frames}),
            ["input_ids", "encoder_hidden_states", "attention_mask"],
            ["logits", *(f"present.{name}" for name in past)],
        ),
        Graph(
            "decoder_with_past",
            DecoderWithPast(model, past).eval(),
            (ids[:, :1], mask, [*past.values()]),
            ({0: rows}, {0: rows, 1: any_frames}, past_lengths),
            ["input_ids", "attention_mask", *(f"past_key_values.{name}" for name in past)],
            ["logits", *(f"present.{name}" for name in past if OWN in name)],
        ),
    ]


def check_graph(graph: Graph, path: Path) -> None:
    """Raises ConfigError where a file does not compute what the module does."""
    import onnxruntime

    inputs = [
        part for value in graph.inputs for part in (value if isinstance(value, list) else [value])
    ]
    feed = {name: value.numpy() for name, value in zip(graph.input_names, inputs, strict=True)}
    expected = graph.module(*graph.inputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is said here
    try:
        found = onnxruntime.InferenceSession(path, options).run(graph.output_names, feed)
    except Exception as error:  # the library has no common base for its own
        raise ConfigError(f"this attention cannot be exported to ONNX: {reason(error)}") from None
    for name, one, other in zip(graph.output_names, expected, found, strict=True):
        off = (one - torch.from_numpy(other)).abs().max() / one.abs().max().clamp(min=1e-6)
        if not off <= TOLERANCE:
            raise ConfigError(
                f"this attention cannot be exported to ONNX: the {name} of its {graph.name} would "
                f"differ by {100 * off:.1f} %"
            )


@contextmanager
def quiet() -> Iterator[None]:
    """Silences the exporters' notes on what they do."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def write_transcription(model: EchoForConditionalGeneration, tokenizer: Any, folder: Path) -> None:
    """Writes what a program needs beside the graphs: `tokenizer.json`, that of a CTC head with
    tokens of its own as `ctc_tokenizer.json`, the mel filters (n_mels, 201), and `transcribe.json`:

    `prompt`: the first tokens; `languages`: where a language is to follow the first of them, its
    token by code; `end`, `suppress`, `begin_suppress`: the token that ends the text, and those
    that are never written, or not at the start; `max_tokens`: the most, prompt included;
    `pad_to_seconds`, `added_silence`: the least length of recording and silence, and of the
    silence, in seconds; `max_seconds`: the most audio.
    """
    config = model.config
    generation: Any = model.generation_config
    prompt = list(tokenizer.prefix_tokens)
    languages = {}
    if known_languages(generation) and tokenizer.language is None:
        languages = {key.strip("<|>"): i for key, i in known_languages(generation).items()}
        if tokenizer.task is None:
            prompt.insert(1, generation.task_to_id["transcribe"])
    settings = {
        "prompt": prompt,
        "languages": languages,
        "end": tokenizer.eos_token_id,
        "suppress": generation.suppress_tokens or [],
        "begin_suppress": generation.begin_suppress_tokens or [],
        "max_tokens": config.max_target_positions,
        "pad_to_seconds": config.pad_to_seconds or 0,
        "added_silence": config.added_silence,
        "max_seconds": ENCODER_STRIDE * config.max_source_positions / FRAMES_PER_SECOND,
    }
    write_json(folder / "transcribe.json", settings)
    np.save(folder / "mel_filters.npy", filters(config.num_mel_bins).numpy())
    tokenizer.save_pretrained(folder)
    if config.ctc_vocabulary:
        ctc_tokenizer(config, tokenizer).backend_tokenizer.save(str(folder / CTC_TOKENIZER_FILE))


def prepare(source: Source, precision: str | None) -> Write:
    """Loads the model. Raises EchoError where it cannot be loaded."""
    loaded = load_model(source.checkpoint.folder)

    def write(folder: Path) -> None:
        write_onnx(loaded.model, folder, int8=precision == "int8")
        write_transcription(loaded.model, loaded.tokenizer, folder)

    return write


TARGET = Target(
    "onnx",
    "as ONNX graphs, for onnxruntime",
    """\
import onnxruntime

# `transcribe.json` says how text is asked for; scripts/transcribe_onnx.py of Echo does it.
encoder = onnxruntime.InferenceSession("encoder.onnx")
""",
    prepare,
    ("float32", "int8"),
    library="onnx",
    packages=("onnx", "onnxscript", "onnxruntime"),
    install="'echo-asr[onnx]'",
    any_length=True,
)
