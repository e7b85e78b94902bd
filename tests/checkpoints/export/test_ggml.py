"""whisper.cpp's file, read as its loader reads it."""

import struct
from dataclasses import dataclass, field

import numpy as np
import pytest
from safetensors.torch import load_file

from echo.checkpoints.export.export import export
from echo.checkpoints.export.ggml import openai_name
from echo.support.errors import ConfigError
from tests.checkpoints.export.conftest import D
from tests.small_whisper import SIZES, save_whisper, small_whisper

# The names and shapes that whisper.cpp's loader asks for, of a model of width D.
BLOCK = {
    "attn_ln.weight": (1,),
    "attn_ln.bias": (1,),
    "attn.query.weight": (1, 1),
    "attn.query.bias": (1,),
    "attn.key.weight": (1, 1),
    "attn.value.weight": (1, 1),
    "attn.value.bias": (1,),
    "attn.out.weight": (1, 1),
    "attn.out.bias": (1,),
    "mlp_ln.weight": (1,),
    "mlp_ln.bias": (1,),
    "mlp.0.weight": (4, 1),
    "mlp.0.bias": (4,),
    "mlp.2.weight": (1, 4),
    "mlp.2.bias": (1,),
}


@dataclass
class File:
    """What stands in a file."""

    sizes: tuple[int, ...]
    filters: np.ndarray
    tokens: list[bytes]
    tensors: dict[str, np.ndarray] = field(default_factory=dict)


def read(path):
    data = path.read_bytes()
    place = 0

    def take(form):
        nonlocal place
        values = struct.unpack_from("<" + form, data, place)
        place += struct.calcsize("<" + form)
        return values

    def take_array(kind, shape):
        nonlocal place
        found = np.frombuffer(data, kind, int(np.prod(shape)), place).reshape(shape)
        place += found.nbytes
        return found

    magic, *sizes = take("I11i")
    assert magic.to_bytes(4, "big") == b"ggml"
    filters = take_array("<f4", take("2i"))
    tokens = [take(f"{take('i')[0]}s")[0] for _ in range(take("i")[0])]
    file = File(tuple(sizes), filters, tokens)
    while place < len(data):
        rank, length, kind = take("3i")
        shape = take(f"{rank}i")[::-1]
        name = take(f"{length}s")[0].decode()
        if kind == 8:
            blocks = take_array([("d", "<f2"), ("q", "i1", 32)], (int(np.prod(shape)) // 32,))
            values = (blocks["d"].astype("f4")[:, None] * blocks["q"]).reshape(shape)
        else:
            values = take_array({0: "<f4", 1: "<f2"}[kind], shape)
        file.tensors[name] = values
    return file


@pytest.mark.parametrize(("precision", "step"), [("float32", 0), ("float16", 5e-4), ("int8", 5e-3)])
def test_everything_is_where_the_loader_looks_for_it(english, tmp_path, precision, step):
    export(english, tmp_path / "out", "ggml", precision)
    file = read(tmp_path / "out" / "ggml-model.bin")
    assert file.sizes[:10] == (51864, 1500, D, 2, 1, 448, D, 2, 1, 80)
    assert file.filters.shape == (80, 201)
    assert len(file.tokens) == 50256
    assert (file.tokens[0], file.tokens[262]) == (b"!", b" the")
    assert b"\n" in file.tokens

    expected = {
        "encoder.positional_embedding": (1500, D),
        "encoder.conv1.weight": (D, 80, 3),
        "encoder.conv1.bias": (D, 1),
        "encoder.conv2.weight": (D, D, 3),
        "encoder.conv2.bias": (D, 1),
        "encoder.ln_post.weight": (D,),
        "encoder.ln_post.bias": (D,),
        "decoder.positional_embedding": (448, D),
        "decoder.token_embedding.weight": (51864, D),
        "decoder.ln.weight": (D,),
        "decoder.ln.bias": (D,),
    }
    for name, shape in BLOCK.items():
        full = tuple(D * n for n in shape)
        expected |= {f"{stack}.blocks.0.{name}": full for stack in ("encoder", "decoder")}
        if name.startswith("attn"):
            expected[f"decoder.blocks.0.cross_{name}"] = full
    assert {name: values.shape for name, values in file.tensors.items()} == expected

    weights = load_file(english / "model.safetensors")
    layer = "model.decoder.layers.0"
    for name, key in {
        "decoder.token_embedding.weight": "model.decoder.embed_tokens.weight",
        "encoder.conv2.weight": "model.encoder.conv2.weight",
        "decoder.blocks.0.cross_attn.key.weight": f"{layer}.encoder_attn.k_proj.weight",
        "decoder.blocks.0.attn.out.weight": f"{layer}.self_attn.out_proj.weight",
        "decoder.blocks.0.mlp.2.weight": f"{layer}.fc2.weight",
        "decoder.blocks.0.mlp_ln.weight": f"{layer}.final_layer_norm.weight",
        "encoder.positional_embedding": "model.encoder.embed_positions.weight",
    }.items():
        original = weights[key].numpy()
        assert np.abs(file.tensors[name] - original).max() <= step * np.abs(original).max()


def test_names_of_weights_are_openai_s():
    assert openai_name("model.decoder.layers.11.encoder_attn_layer_norm.bias") == (
        "decoder.blocks.11.cross_attn_ln.bias"
    )
    assert openai_name("model.encoder.layers.3.self_attn_layer_norm.weight") == (
        "encoder.blocks.3.attn_ln.weight"
    )


def test_another_vocabulary_is_refused(tmp_path):
    source = save_whisper(small_whisper(encoder_ffn_dim=4 * SIZES["d_model"]), tmp_path / "small")
    with pytest.raises(ConfigError, match="Whisper's own vocabulary"):
        export(source, tmp_path / "out", "ggml")
    assert not (tmp_path / "out").exists()
