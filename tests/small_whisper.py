"""Small Whisper checkpoints, and what can be wrong with one."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)

from echo.data.tokenizer import load_tokenizer, train_tokenizer

TOKENIZER = train_tokenizer(["the quick brown fox jumps over the lazy dog"])
SIZES = {
    "vocab_size": len(TOKENIZER) + 7,  # timestamps are no tokens of the tokenizer
    "d_model": 48,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 64,
    "max_source_positions": 100,
    "max_target_positions": 32,
    "init_std": 0.3,
    "pad_token_id": TOKENIZER.pad_token_id,
    "bos_token_id": TOKENIZER.bos_token_id,
    "eos_token_id": TOKENIZER.eos_token_id,
    "decoder_start_token_id": TOKENIZER.convert_tokens_to_ids("<|startoftranscript|>"),
    "begin_suppress_tokens": None,
}
GENERATION = {
    "suppress_tokens": [3, 5],
    "begin_suppress_tokens": [7],
    "forced_decoder_ids": [[1, 6]],  # which `transformers` itself does not read any more
    "alignment_heads": [[0, 1], [1, 3]],
    "no_timestamps_token_id": TOKENIZER.convert_tokens_to_ids("<|notimestamps|>"),
    "lang_to_id": {"<|en|>": 6},
    "task_to_id": {"transcribe": 8},
    "is_multilingual": True,
    "max_length": 24,
}


def small_whisper(**changes):
    return WhisperForConditionalGeneration(WhisperConfig(**{**SIZES, **changes})).eval()


def save_whisper(model, folder, **options):
    """A folder as those of the hub."""
    model.save_pretrained(folder, **options)
    # `transformers` reads the file only where it was not made from the model's config.
    edit("generation_config.json", **GENERATION, _from_model_config=False)(folder)
    mels = model.config.num_mel_bins
    extractor = WhisperFeatureExtractor(feature_size=mels, chunk_length=2)
    WhisperProcessor(extractor, TOKENIZER).save_pretrained(folder)
    (folder / "normalizer.json").write_text('{"colour": "color"}')
    (folder / "preprocessor_config.json").write_text(f'{{"feature_size": {mels}}}')
    return folder


def weights(folder):
    return load_file(folder / "model.safetensors")


def as_shards(model, folder):
    return save_whisper(model, folder, max_shard_size="100KB")


def edit(name, **changes):
    def change(folder):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, **changes}))

    return change


def cut(name, size):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def remove(name):
    return lambda folder: (folder / name).unlink()


def edit_weights(change):
    def apply(folder):
        tensors = weights(folder)
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return apply


def lose_a_token(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    del content["model"]["vocab"]["q"]
    (folder / "tokenizer.json").write_text(json.dumps(content))


def other_tokenizer(folder):
    WhisperProcessor(WhisperFeatureExtractor(), train_tokenizer(["abc"])).save_pretrained(folder)


def lose_a_shard(folder):
    as_shards(WhisperForConditionalGeneration.from_pretrained(folder), folder)
    (folder / "model.safetensors").unlink()
    min(folder.glob("model-*.safetensors")).unlink()


def change_index(change):
    """Shards whose index is another than theirs."""

    def apply(folder):
        as_shards(WhisperForConditionalGeneration.from_pretrained(folder), folder)
        (folder / "model.safetensors").unlink()
        path = folder / "model.safetensors.index.json"
        content = json.loads(path.read_text())
        change(content["weight_map"])
        path.write_text(json.dumps(content))

    return apply


def empty(folder):
    for path in folder.iterdir():
        path.unlink()


def write(name, text):
    return lambda folder: (folder / name).write_text(text)


def more_tokens(folder):
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens([f"<|more {i}|>" for i in range(SIZES["vocab_size"])])
    tokenizer.save_pretrained(folder)


def pickle_only(content):
    def apply(folder):
        (folder / "model.safetensors").unlink()
        torch.save(content, folder / "pytorch_model.bin")

    return apply


# By what is wrong: how to make a good folder so, and what is said of it.
DAMAGES = {
    "nothing there": (empty, r"whisper.*config\.json"),
    "no config": (remove("config.json"), r"whisper.*config\.json"),
    "no weights": (remove("model.safetensors"), "whisper: holds no weights"),
    "a config that is no JSON": (cut("config.json", 40), "config.json: is not JSON"),
    "another model": (BertConfig().save_pretrained, "its model_type is 'bert'"),
    "layers without end": (
        edit("config.json", decoder_layers=10**7),
        "its decoder_layers is 10000000, but must be from 1 to 1000",
    ),
    "a wrong type": (edit("config.json", d_model="big"), "config.json: is no whisper config"),
    "a wrong number of heads": (
        edit("config.json", encoder_attention_heads=5),
        "its config describes no valid model .*divisible by num_heads",
    ),
    "another width": (
        edit("config.json", d_model=64),
        r"its weight model.encoder.conv1.weight is of shape \(48, 80, 3\), but its config gives it",
    ),
    "another vocabulary": (
        edit("config.json", vocab_size=999),
        r"its weight model.decoder.embed_tokens.weight is of shape \(\d+, 48\), but its config",
    ),
    "more layers": (
        edit("config.json", encoder_layers=3),
        "lacks the weight model.encoder.layers.2.self_attn.k_proj.weight",
    ),
    "fewer layers": (
        edit("config.json", decoder_layers=1),
        "its weight model.decoder.layers.1.* is not part of the model that its config describes",
    ),
    "a weight too few": (
        edit_weights(lambda tensors: tensors.pop("model.decoder.layer_norm.bias")),
        "lacks the weight model.decoder.layer_norm.bias",
    ),
    "cut weights": (cut("model.safetensors", 5000), "model.safetensors: cannot be read as"),
    "weights without their end": (cut("model.safetensors", -8), "model.safetensors: cannot be"),
    "empty weights": (cut("model.safetensors", 0), "model.safetensors: cannot be read as"),
    "a missing shard": (lose_a_shard, "model-00001-of-.*.safetensors: cannot be read as"),
    "an index of what is not there": (
        change_index(lambda places: places.update(more=min(places.values()))),
        r"index.json: has the weight more in model-00001-of-.*, which does not hold it",
    ),
    "an index that lacks a weight": (
        change_index(lambda places: places.pop("model.decoder.layer_norm.bias")),
        "lacks the weight model.decoder.layer_norm.bias",
    ),
    "code in a pickle": (pickle_only(Path("x")), "pytorch_model.bin: cannot be read as PyTorch"),
    "no tensors in a pickle": (pickle_only([1]), "pytorch_model.bin: does not hold named tensors"),
    "a damaged tokenizer": (cut("tokenizer.json", 300), "tokenizer.json: is not JSON"),
    "no tokenizer": (write("tokenizer.json", '{"a": 1}'), "whisper: no tokenizer can be loaded"),
    "a lost token": (lose_a_token, "whisper: its tokenizer lacks the token with the id"),
    "another tokenizer": (other_tokenizer, "its decoder_start_token_id is .* tokenizer's"),
    "a larger tokenizer": (more_tokens, "its tokenizer has a token with the id .* but its model"),
    "a damaged generation config": (
        cut("generation_config.json", 30),
        "generation_config.json: is not JSON",
    ),
    "tokens that are none": (
        edit("generation_config.json", suppress_tokens="all"),
        "generation_config.json: its suppress_tokens is not of the model's",
    ),
    "a token beyond the vocabulary": (
        edit("generation_config.json", eos_token_id=50256),
        "generation_config.json: its eos_token_id is not of the model's",
    ),
    "damaged settings of features": (
        write("preprocessor_config.json", "garbage"),
        "preprocessor_config.json: is not JSON",
    ),
}
