"""whisper.cpp's format: one little-endian file, of which its `whisper_model_load` is the
description.

    magic, 11 sizes                                  int32
    mel filters: bands, frequencies, weights         int32, int32, float32
    tokens of text: count, then length and bytes     int32
    tensors: rank, length of name, type, dimensions from the last to the first, name, numbers

It stores no special tokens: whisper.cpp works out their ids from the size of the vocabulary.
"""

import re
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from transformers import WhisperConfig, WhisperTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from echo.checkpoints.export.target import Source, Target, Write
from echo.checkpoints.stored import TIED, StoredTensor
from echo.data.features import filters
from echo.model.timestamps import TIMESTAMPS
from echo.support.errors import ConfigError

MODEL_FILE = "ggml-model.bin"
MAGIC = 0x67676D6C  # "ggml"
WHISPER_POSITIONS = 1500  # 30 s
WHISPER_VOCABULARIES = (51864, 51865, 51866)  # English, multilingual, and large-v3's
# The types of tensors, and of a file by the type of its matrices.
FLOAT32, FLOAT16, INT8 = 0, 1, 8
FILE_TYPES = {"float32": (0, FLOAT32), "float16": (1, FLOAT16), "int8": (2007, INT8)}
BLOCK = 32  # numbers that share a scale in int8
VECTORS = ("positional_embedding", "conv1.bias", "conv2.bias")  # matrices that stay float32

# OpenAI's names of modules, by those of `transformers`.
NAMES = {
    "embed_tokens.weight": "token_embedding.weight",
    "embed_positions.weight": "positional_embedding",
    "layers": "blocks",
    "self_attn_layer_norm": "attn_ln",
    "encoder_attn_layer_norm": "cross_attn_ln",
    "final_layer_norm": "mlp_ln",
    "self_attn": "attn",
    "encoder_attn": "cross_attn",
    "q_proj": "query",
    "k_proj": "key",
    "v_proj": "value",
    "out_proj": "out",
    "fc1": "mlp.0",
    "fc2": "mlp.2",
}
LONGEST_FIRST = re.compile(r"\b(" + "|".join(map(re.escape, NAMES)) + r")(?![\w])")


def check_whisper_cpp(
    config: WhisperConfig, tokenizer: WhisperTokenizer, weights: Mapping[str, StoredTensor]
) -> None:
    """Raises ConfigError where whisper.cpp cannot hold a model."""
    without = config.vocab_size - TIMESTAMPS - 1
    if (
        config.vocab_size not in WHISPER_VOCABULARIES
        or tokenizer.convert_tokens_to_ids("<|notimestamps|>") != without
    ):
        raise ConfigError("whisper.cpp supports only models with Whisper's own vocabulary")
    if config.max_source_positions != WHISPER_POSITIONS:
        raise ConfigError(
            f"whisper.cpp supports only encoders of 30 s ({WHISPER_POSITIONS} positions), not "
            f"{config.max_source_positions}"
        )
    width = 4 * config.d_model
    if (config.encoder_ffn_dim, config.decoder_ffn_dim) != (width, width):
        raise ConfigError("whisper.cpp supports only layers whose inner width is 4 times the outer")
    if TIED in weights:
        raise ConfigError(
            "whisper.cpp does not support an output projection separate from the embeddings"
        )


def write_ggml(
    config: WhisperConfig,
    tokenizer: WhisperTokenizer,
    weights: Mapping[str, StoredTensor],
    path: Path,
    precision: str,
) -> None:
    """Writes one file. The weights are by `transformers`' names, without an output projection; its
    matrices become "float32", "float16" or "int8", in blocks that share a scale."""
    file_type, matrix_type = FILE_TYPES[precision]
    sizes = (
        config.vocab_size,
        config.max_source_positions,
        config.d_model,
        config.encoder_attention_heads,
        config.encoder_layers,
        config.max_target_positions,
        config.d_model,
        config.decoder_attention_heads,
        config.decoder_layers,
        config.num_mel_bins,
        file_type,
    )
    bank = filters(config.num_mel_bins).numpy()
    tokens = text_tokens(tokenizer)
    with path.open("wb") as file:
        file.write(struct.pack("<I11i", MAGIC, *sizes))
        file.write(struct.pack("<2i", *bank.shape) + bank.astype("<f4").tobytes())
        file.write(struct.pack("<i", len(tokens)))
        for token in tokens:
            file.write(struct.pack("<i", len(token)) + token)
        for key, stored in weights.items():
            name = openai_name(key)
            file.write(tensor_bytes(name, stored.load().float(), matrix_type))


def text_tokens(tokenizer: WhisperTokenizer) -> list[bytes]:
    """The bytes of every token of text, in the order of their ids."""
    of_character = {character: byte for byte, character in bytes_to_unicode().items()}
    ids = sorted((i, token) for token, i in tokenizer.get_vocab().items())
    return [
        bytes(of_character[character] for character in token)
        for i, token in ids
        if i < tokenizer.eos_token_id
    ]


def openai_name(key: str) -> str:
    """OpenAI's name of a weight of `transformers`."""
    name = LONGEST_FIRST.sub(lambda found: NAMES[found[1]], key.removeprefix("model."))
    name = name.replace("encoder.layer_norm.", "encoder.ln_post.")
    return name.replace("decoder.layer_norm.", "decoder.ln.")


def tensor_bytes(name: str, tensor: torch.Tensor, matrix_type: int) -> bytes:
    """A tensor as it stands in the file: matrices of one type, and vectors as float32."""
    if name.endswith(("conv1.bias", "conv2.bias")):
        tensor = tensor[:, None]  # added to (channels, frames)
    numbers = tensor.numpy()
    kind = FLOAT32 if numbers.ndim == 1 or name.endswith(VECTORS) else matrix_type
    if kind == INT8 and (numbers.ndim != 2 or numbers.shape[1] % BLOCK):
        kind = FLOAT16  # convolutions
    data = blocks(numbers) if kind == INT8 else numbers.astype("<f2" if kind else "<f4").tobytes()
    encoded = name.encode()
    head = struct.pack("<3i", numbers.ndim, len(encoded), kind)
    return head + struct.pack(f"<{numbers.ndim}i", *numbers.shape[::-1]) + encoded + data


def blocks(numbers: np.ndarray) -> bytes:
    """Rows as blocks of 32 whole numbers from -127 to 127, each after its scale in float16."""
    rows = numbers.reshape(-1, BLOCK)
    scales = np.abs(rows).max(1) / 127
    whole = np.rint(rows / np.where(scales > 0, scales, 1)[:, None])
    packed = np.empty(len(rows), dtype=[("scale", "<f2"), ("numbers", "i1", BLOCK)])
    packed["scale"], packed["numbers"] = scales, whole
    return packed.tobytes()


def prepare(source: Source, precision: str | None) -> Write:
    """Raises EchoError where the model is not a Whisper that whisper.cpp can hold."""
    assert precision is not None
    config, tokenizer = source.as_whisper()
    weights = source.checkpoint.untied_weights(config)
    check_whisper_cpp(config, tokenizer, weights)
    return lambda folder: write_ggml(config, tokenizer, weights, folder / MODEL_FILE, precision)


TARGET = Target(
    "ggml",
    "in the ggml format, for whisper.cpp",
    f"""\
from pywhispercpp.model import Model

print(" ".join(segment.text for segment in Model("{MODEL_FILE}").transcribe("recording.wav")))
""",
    prepare,
    ("float16", "float32", "int8"),
)
