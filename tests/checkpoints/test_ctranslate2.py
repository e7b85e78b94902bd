"""Whisper as CTranslate2 keeps it: the same weights, tokens and settings come out."""

import json
import re
import struct
from contextlib import suppress

import pytest
import torch
from safetensors.torch import load_file
from transformers import WhisperConfig, WhisperForConditionalGeneration

from echo.checkpoints.convert import convert
from echo.checkpoints.ctranslate2 import CTranslate2Folder
from echo.data.tokenizer import encode_transcript, load_tokenizer, train_tokenizer
from echo.model.model import EchoForConditionalGeneration
from echo.support.errors import DataError

TYPES = {
    torch.float32: 0,
    torch.int8: 1,
    torch.int16: 2,
    torch.int32: 3,
    torch.float16: 4,
    torch.bfloat16: 5,
}
SPECIAL = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|zh|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nocaptions|>",
    "<|notimestamps|>",
)
TIMESTAMPS = tuple(f"<|{i * 0.02:.2f}|>" for i in range(5))
PLAIN = ["attention.encoder=plain"]


def string(text):
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def variable(name, value):
    value = torch.as_tensor(value)
    data = value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return b"".join(
        [
            string(name),
            struct.pack("<B", value.ndim),
            struct.pack(f"<{value.ndim}I", *value.shape),
            struct.pack("<BI", TYPES[value.dtype], len(data)),
            data,
        ]
    )


def model_bin(variables, aliases=(), version=6, specification="WhisperSpec"):
    return b"".join(
        [
            struct.pack("<I", version) + string(specification) + struct.pack("<I", 3),
            struct.pack("<I", len(variables)),
            *(variable(name, value) for name, value in variables.items()),
            struct.pack("<I", len(aliases)),
            *(string(alias) + string(name) for alias, name in aliases),
        ]
    )


def variables_of(model):
    """A Whisper's weights under CTranslate2's names, stacked as there."""
    weights = model.state_dict()

    def linear(*names):
        weight = torch.cat([weights[f"{name}.weight"] for name in names])
        # Keys have no bias in Whisper, and zeros for one here.
        bias = [
            weights.get(f"{name}.bias", torch.zeros(len(weights[f"{name}.weight"])))
            for name in names
        ]
        return {"weight": weight, "bias": torch.cat(bias).to(weight.dtype)}

    def norm(name):
        return {"gamma": weights[f"{name}.weight"], "beta": weights[f"{name}.bias"]}

    modules = {
        "encoder/conv1": linear("model.encoder.conv1"),
        "encoder/conv2": linear("model.encoder.conv2"),
        "decoder/embeddings": {"weight": weights["model.decoder.embed_tokens.weight"]},
    }
    for stack, layers in (("encoder", model.model.encoder), ("decoder", model.model.decoder)):
        positions = weights[f"model.{stack}.embed_positions.weight"]
        modules[f"{stack}/position_encodings"] = {"encodings": positions}
        modules[f"{stack}/layer_norm"] = norm(f"model.{stack}.layer_norm")
        modules[stack] = {"num_heads": torch.tensor(2, dtype=torch.int16)}
        for i in range(len(layers.layers)):
            ours, theirs = f"model.{stack}.layers.{i}", f"{stack}/layer_{i}"
            attention = [f"{ours}.self_attn.{x}_proj" for x in ("q", "k", "v", "out")]
            modules |= {
                f"{theirs}/self_attention/layer_norm": norm(f"{ours}.self_attn_layer_norm"),
                f"{theirs}/self_attention/linear_0": linear(*attention[:3]),
                f"{theirs}/self_attention/linear_1": linear(attention[3]),
                f"{theirs}/ffn/layer_norm": norm(f"{ours}.final_layer_norm"),
                f"{theirs}/ffn/linear_0": linear(f"{ours}.fc1"),
                f"{theirs}/ffn/linear_1": linear(f"{ours}.fc2"),
            }
            if stack == "decoder":
                attention = [f"{ours}.encoder_attn.{x}_proj" for x in ("q", "k", "v", "out")]
                modules |= {
                    f"{theirs}/attention/layer_norm": norm(f"{ours}.encoder_attn_layer_norm"),
                    f"{theirs}/attention/linear_0": linear(attention[0]),
                    f"{theirs}/attention/linear_1": linear(*attention[1:3]),
                    f"{theirs}/attention/linear_2": linear(attention[3]),
                }
    return {
        f"{m}/{field}": value for m, fields in modules.items() for field, value in fields.items()
    }


def quantised(variables, dtype):
    """As CTranslate2 does it: matrices alone, by rows (int8) or as a whole (int16)."""
    result = {}
    for name, value in variables.items():
        result[name] = value
        if name.endswith("/weight") and value.ndim == 2:
            scale = (
                127 / value.float().abs().amax(1)
                if dtype == torch.int8
                else 1024 / value.float().abs().max()
            )
            factors = scale[:, None] if scale.ndim else scale
            result[name] = (value.float() * factors).round().to(dtype)
            result[f"{name}_scale"] = scale
    return result


def small_whisper(vocab_size, **changes):
    sizes = {
        "vocab_size": vocab_size,
        "d_model": 24,
        "encoder_layers": 2,
        "decoder_layers": 3,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 40,
        "decoder_ffn_dim": 56,
        "max_source_positions": 50,
        "max_target_positions": 20,
        "num_mel_bins": 128,
        "pad_token_id": 0,
    }
    model = WhisperForConditionalGeneration(WhisperConfig(**{**sizes, **changes})).eval()
    for parameter in model.parameters():  # so that no two of the same shape are alike
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture
def tokenizer():
    """One as Whisper's: text, special tokens, and no timestamps."""
    tokenizer = train_tokenizer(["the quick brown fox"])
    text = [t for t, i in sorted(tokenizer.get_vocab().items(), key=lambda x: x[1])][:-4]
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    content["model"]["vocab"] = {token: i for i, token in enumerate(text)}
    content["added_tokens"] = [
        {**content["added_tokens"][0], "id": len(text) + i, "content": token}
        for i, token in enumerate(SPECIAL)
    ]
    content["post_processor"] = None
    return [*text, *SPECIAL], content


def save(folder, variables, tokenizer, aliases=None, **settings):
    vocabulary, content = tokenizer
    folder.mkdir()
    if aliases is None:
        aliases = [("decoder/projection/weight", "decoder/embeddings/weight")]
    (folder / "model.bin").write_bytes(model_bin(variables, aliases))
    settings = {
        "alignment_heads": [[1, 0]],
        "suppress_ids": [1, 2],
        "suppress_ids_begin": [3],
        **settings,
    }
    (folder / "config.json").write_text(json.dumps(settings))
    tokens = [*vocabulary, *TIMESTAMPS]
    (folder / "vocabulary.json").write_text(json.dumps(tokens))
    if content:
        (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def model(tokenizer):
    return small_whisper(len(tokenizer[0]) + len(TIMESTAMPS))


@pytest.fixture
def folder(tmp_path, model, tokenizer):
    return save(tmp_path / "ct2", variables_of(model), tokenizer)


def converted(folder, target, settings=PLAIN, **options):
    convert(folder, target, settings, **options)
    return load_file(target / "model.safetensors")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_the_weights_come_out_as_they_went_in(tmp_path, model, tokenizer, dtype):
    folder = save(tmp_path / "ct2", variables_of(model.to(dtype)), tokenizer)
    found = converted(folder, tmp_path / "echo")
    expected = model.state_dict()
    assert found.keys() == expected.keys() - {"proj_out.weight"}
    for key, value in found.items():
        assert value.dtype == dtype
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16], ids=str)
@pytest.mark.parametrize("rest", [torch.float32, torch.float16], ids=str)
def test_quantised_weights_come_out_as_what_they_stand_for(tmp_path, model, tokenizer, dtype, rest):
    variables = quantised(variables_of(model.to(rest)), dtype)
    folder = save(tmp_path / "ct2", variables, tokenizer)
    found = converted(folder, tmp_path / "echo")
    assert {tensor.dtype for tensor in found.values()} == {rest}
    model.load_state_dict(found, strict=False)
    for name, value in variables_of(model).items():
        expected = variables[name]
        if (scale := variables.get(f"{name}_scale")) is not None:
            expected = (expected / (scale[:, None] if scale.ndim else scale)).to(rest)
        assert torch.equal(value, expected), name


QUANTISATIONS = {
    "float16": torch.float16,
    "int8": torch.float32,
    "int8_float16": torch.float16,
    "int8_bfloat16": torch.bfloat16,
    "int16": torch.float32,
}


@pytest.fixture(scope="module")
def whisper_folder(tmp_path_factory):
    """A Whisper as the converter reads it, whose tokenizer has all tokens that a Whisper needs."""
    folder = tmp_path_factory.mktemp("whisper")
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["the quick brown fox"])
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|startofprev|>"]})
    start = tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
    model = small_whisper(
        len(tokenizer) + len(TIMESTAMPS),
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=start,
        begin_suppress_tokens=[3],
    )
    model.generation_config.update(alignment_heads=[[1, 0]], lang_to_id={"<|en|>": start})
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("quantisation", "rest"), QUANTISATIONS.items(), ids=QUANTISATIONS.keys())
def test_what_the_real_converter_wrote_comes_out_as_it_went_in(
    tmp_path, whisper_folder, quantisation, rest
):
    converters = pytest.importorskip("ctranslate2").converters
    converter = converters.TransformersConverter(
        str(whisper_folder), copy_files=["tokenizer.json"], load_as_float16=False
    )
    converter.convert(str(tmp_path / "ct2"), quantization=quantisation)
    found = converted(tmp_path / "ct2", tmp_path / "echo")
    original = load_file(whisper_folder / "model.safetensors")
    assert {tensor.dtype for tensor in found.values()} == {rest}
    assert found.keys() == original.keys()
    largest = max(value.abs().max() for value in original.values())
    for key, value in original.items():
        row = value.abs().amax(tuple(range(1, value.ndim)), keepdim=True) if value.ndim else value
        step = 0.0  # between neighbouring integers
        if quantisation.startswith("int8"):
            step = row / 127
        elif quantisation == "int16":
            step = largest / 1024  # at most: one factor is for all that is stacked in a matrix
        allowed = 0.51 * step + torch.finfo(rest).eps * row
        assert ((found[key].float() - value).abs() <= allowed).all(), key


def test_a_converted_model_computes_what_the_original_does(folder, model, tmp_path):
    convert(folder, tmp_path / "echo")
    echo = EchoForConditionalGeneration.from_pretrained(tmp_path / "echo").eval()
    features, ids = torch.randn(2, 128, 100), torch.randint(0, model.config.vocab_size, (2, 7))
    with torch.no_grad():
        torch.testing.assert_close(
            echo(features, decoder_input_ids=ids).logits,
            model(features, decoder_input_ids=ids).logits,
            rtol=0,
            atol=1e-4,
        )


def test_the_sizes_and_tokens_are_the_originals(folder, model, tokenizer, tmp_path):
    config = convert(folder, tmp_path / "echo")
    for key in (
        "vocab_size",
        "d_model",
        "encoder_layers",
        "decoder_layers",
        "encoder_attention_heads",
        "decoder_attention_heads",
        "encoder_ffn_dim",
        "decoder_ffn_dim",
        "max_source_positions",
        "max_target_positions",
        "num_mel_bins",
    ):
        assert getattr(config, key) == getattr(model.config, key), key
    ids = {token: i for i, token in enumerate(tokenizer[0])}
    generation = json.loads((tmp_path / "echo" / "generation_config.json").read_text())
    generation.pop("transformers_version")
    assert generation == {
        "alignment_heads": [[1, 0]],
        "begin_suppress_tokens": [3],
        "bos_token_id": ids["<|endoftext|>"],
        "decoder_start_token_id": ids["<|startoftranscript|>"],
        "eos_token_id": ids["<|endoftext|>"],
        "is_multilingual": False,
        "max_initial_timestamp_index": 50,
        "max_length": 20,
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "prev_sot_token_id": ids["<|startofprev|>"],
        "return_timestamps": False,
        "suppress_tokens": [1, 2],
    }
    loaded = EchoForConditionalGeneration.from_pretrained(tmp_path / "echo").generation_config
    assert loaded.no_timestamps_token_id == ids["<|notimestamps|>"]

    words = load_tokenizer(tmp_path / "echo")
    encoded = encode_transcript(words, "the fox")
    assert encoded[:2] == [ids["<|startoftranscript|>"], ids["<|notimestamps|>"]]
    assert encoded[-1] == ids["<|endoftext|>"] == words.pad_token_id
    assert words.decode(encoded, skip_special_tokens=True) == " the fox"
    assert words.all_special_ids == [ids[token] for token in SPECIAL]


def test_a_multilingual_model_knows_its_languages(tmp_path):
    vocabulary = [*(f"t{i}" for i in range(51865 - len(SPECIAL) - len(TIMESTAMPS))), *SPECIAL]
    start = vocabulary.index("<|startoftranscript|>")
    model = small_whisper(51865, d_model=4, encoder_ffn_dim=2, decoder_ffn_dim=2)
    folder = save(
        tmp_path / "ct2", variables_of(model), (vocabulary, None), lang_ids=[start + 1, start + 2]
    )
    generation = CTranslate2Folder(folder).generation
    assert generation.is_multilingual
    assert generation.lang_to_id == {"<|en|>": start + 1, "<|zh|>": start + 2}
    assert generation.task_to_id == {"translate": start + 3, "transcribe": start + 4}


def test_what_the_folder_lacks_is_what_every_whisper_has(tmp_path, tokenizer):
    """The number of heads, which older files do not tell, and the settings of features."""
    model = small_whisper(len(tokenizer[0]) + len(TIMESTAMPS), d_model=128)
    variables = {k: v for k, v in variables_of(model).items() if not k.endswith("num_heads")}
    folder = save(tmp_path / "ct2", variables, tokenizer)
    (folder / "vocabulary.json").unlink()
    tokens = [*tokenizer[0], *TIMESTAMPS]
    (folder / "vocabulary.txt").write_text("\n".join(tokens) + "\n")
    config = convert(folder, tmp_path / "one")
    assert config.encoder_attention_heads == config.decoder_attention_heads == 2
    assert '"feature_size": 128' in (tmp_path / "one" / "processor_config.json").read_text()
    (folder / "preprocessor_config.json").write_text('{"feature_size": 128, "hop_length": 170}')
    convert(folder, tmp_path / "two")
    assert '"hop_length": 170' in (tmp_path / "two" / "processor_config.json").read_text()


def test_no_part_of_a_file_is_taken_for_the_whole(tmp_path, folder):
    whole = (folder / "model.bin").read_bytes()
    for size in [*range(200), *range(200, len(whole), 997), len(whole) - 1]:
        (folder / "model.bin").write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"model\.bin: is (cut off|not a model)") as raised:
            CTranslate2Folder(folder)
        assert "\n" not in str(raised.value)


def test_any_changed_byte_is_an_error_or_another_number(folder):
    """Lengths, types and names that are wrong are never read by."""
    whole = (folder / "model.bin").read_bytes()
    for place in torch.randint(len(whole), (30,)).tolist() + list(range(0, 300, 7)):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        (folder / "model.bin").write_bytes(damaged)
        with suppress(DataError):
            CTranslate2Folder(folder)


EMBEDDINGS = "decoder/embeddings/weight"
VARIABLES = {
    "no weights": (lambda v: v.pop(EMBEDDINGS), "has no decoder/embeddings/weight of 2 dimensions"),
    "a bias too few": (
        lambda v: v.pop("encoder/layer_1/ffn/linear_0/bias"),
        "lacks the weight model.encoder.layers.1.fc1.bias",
    ),
    "an odd stack": (
        lambda v: v.update({"encoder/layer_0/self_attention/linear_0/weight": torch.ones(73, 24)}),
        "whose rows do not divide into 3 equal parts",
    ),
    "another width": (
        lambda v: v.update({"encoder/layer_0/ffn/linear_1/weight": torch.ones(24, 9)}),
        "its weight model.encoder.layers.0.fc2.weight is of shape (24, 9)",
    ),
    "no scale": (
        lambda v: v.update({EMBEDDINGS: v[EMBEDDINGS].to(torch.int8)}),
        "is quantised, but has no fitting decoder/embeddings/weight_scale",
    ),
    "a scale of another length": (
        lambda v: v.update(
            {EMBEDDINGS: v[EMBEDDINGS].to(torch.int8), f"{EMBEDDINGS}_scale": torch.ones(3)}
        ),
        "is quantised, but has no fitting decoder/embeddings/weight_scale",
    ),
}


@pytest.mark.parametrize(("damage", "message"), VARIABLES.values(), ids=VARIABLES.keys())
def test_weights_that_do_not_fit_are_named(tmp_path, model, tokenizer, damage, message):
    variables = dict(variables_of(model))
    damage(variables)
    folder = save(tmp_path / "ct2", variables, tokenizer, aliases=[])
    with pytest.raises(DataError, match=re.escape(message)):
        convert(folder, tmp_path / "echo")
    assert [path.name for path in tmp_path.iterdir()] == ["ct2"]


FILES = {
    "an older version": (model_bin({}, version=5), "model.bin: is of version 5, not 6"),
    "another model": (
        model_bin({}, specification="TransformerSpec"),
        "model.bin: holds a TransformerSpec, not a WhisperSpec",
    ),
    "an unknown type": (
        model_bin({"x": torch.ones(1)}).replace(
            struct.pack("<IBI", 1, 0, 4), struct.pack("<IBI", 1, 9, 4)
        ),
        "model.bin: x is of an unknown type, 9",
    ),
    "a wrong length": (
        model_bin({"x": torch.ones(2)}).replace(struct.pack("<BI", 0, 8), struct.pack("<BI", 0, 7)),
        "model.bin: x has 7 bytes, but its shape is (2,)",
    ),
    "an alias of nothing": (
        model_bin({}, [("x", "y")]),
        "model.bin: x is an alias of y, which is not there",
    ),
    "a name that is no text": (
        model_bin({}).replace(b"WhisperSpec", b"\xff" * 11),
        "model.bin: is not a model.bin of CTranslate2",
    ),
}


@pytest.mark.parametrize(("content", "message"), FILES.values(), ids=FILES.keys())
def test_a_file_of_something_else_is_named(folder, content, message):
    (folder / "model.bin").write_bytes(content)
    with pytest.raises(DataError, match=re.escape(message)):
        CTranslate2Folder(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocabulary.json", '["a"]', "its vocabulary has 1 tokens, but its model.bin"),
        ("vocabulary.json", "{}", "vocabulary.json: is not a list of tokens"),
        ("vocabulary.json", None, "holds no vocabulary.json or vocabulary.txt"),
        ("config.json", "[", "config.json: is not JSON"),
        ("config.json", '{"suppress_ids": [999]}', "its suppress_ids are not token ids"),
        ("tokenizer.json", '{"version": "1.0"}', "tokenizer.json: is not a Whisper tokenizer"),
        ("preprocessor_config.json", "{", "preprocessor_config.json: is not JSON"),
    ],
)
def test_a_bad_companion_is_named(folder, tmp_path, name, content, message):
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(DataError, match=message):
        convert(folder, tmp_path / "echo")
    assert not (tmp_path / "echo").exists()


def test_a_vocabulary_must_have_whispers_tokens(folder):
    tokens = json.loads((folder / "vocabulary.json").read_text())
    tokens[tokens.index("<|startoftranscript|>")] = "<s>"
    (folder / "vocabulary.json").write_text(json.dumps(tokens))
    with pytest.raises(DataError, match=r"its vocabulary lacks <\|startoftranscript\|>"):
        CTranslate2Folder(folder)
