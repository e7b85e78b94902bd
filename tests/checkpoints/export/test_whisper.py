"""A folder as OpenAI's models have on the hub: from it alone, offline, everything works."""

import json

import numpy as np
import pytest
from transformers import WhisperProcessor, pipeline

from echo.checkpoints.convert import convert
from echo.checkpoints.export.export import export
from tests.small_whisper import edit, save_whisper, small_whisper, weights

FILES = {
    "README.md",
    "added_tokens.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "model.safetensors",
    "normalizer.json",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
}


@pytest.fixture
def source(tmp_path):
    return save_whisper(small_whisper(), tmp_path / "small")


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_all_files_and_the_same_weights(source, tmp_path):
    export(source, tmp_path / "out", "whisper")
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    before, after = weights(source), weights(tmp_path / "out")
    assert before.keys() == after.keys()
    assert all(before[key].equal(after[key]) for key in before)
    assert read(tmp_path / "out" / "normalizer.json") == {"colour": "color"}


def test_an_echo_model_of_plain_blocks_becomes_a_whisper(source, tmp_path):
    plain = ["attention.encoder=plain", "attention.decoder=plain"]
    convert(source, tmp_path / "echo", plain)
    export(tmp_path / "echo", tmp_path / "out", "whisper")
    assert read(tmp_path / "out" / "config.json")["model_type"] == "whisper"
    assert weights(source).keys() == weights(tmp_path / "out").keys()


def test_the_split_files_make_the_same_tokenizer(source, tmp_path):
    """Without tokenizer.json, as tools have it that know only the split files."""
    text = "the quick brown fox"
    expected = WhisperProcessor.from_pretrained(source).tokenizer(text).input_ids
    out = tmp_path / "out"
    export(source, out, "whisper")
    assert WhisperProcessor.from_pretrained(out).tokenizer(text).input_ids == expected
    vocabulary, added = read(out / "vocab.json"), read(out / "added_tokens.json")
    (out / "tokenizer.json").unlink()
    assert WhisperProcessor.from_pretrained(out).tokenizer(text).input_ids == expected
    assert sorted([*vocabulary.values(), *added.values()]) == list(
        range(len(vocabulary) + len(added))
    )


def test_more_mels_are_told(tmp_path):
    source = save_whisper(small_whisper(num_mel_bins=128), tmp_path / "large")
    for name in ("preprocessor_config.json", "processor_config.json"):
        (source / name).unlink()
    export(source, tmp_path / "out", "whisper")
    features = WhisperProcessor.from_pretrained(tmp_path / "out").feature_extractor
    assert (features.feature_size, features.chunk_length) == (128, 2)


def test_heads_for_alignment_default_to_the_upper_half(source, tmp_path):
    export(source, tmp_path / "told", "whisper")
    told = read(tmp_path / "told" / "generation_config.json")["alignment_heads"]
    assert told == [[0, 1], [1, 3]]
    edit("generation_config.json", alignment_heads=None)(source)
    export(source, tmp_path / "untold", "whisper")
    heads = read(tmp_path / "untold" / "generation_config.json")["alignment_heads"]
    assert heads == [[1, 0], [1, 1], [1, 2], [1, 3]]


@pytest.mark.slow
def test_words_have_times_from_the_folder_alone(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    export(shared / "models" / "whisper-tiny.en", tmp_path / "out", "whisper")
    transcribe = pipeline("automatic-speech-recognition", model=str(tmp_path / "out"))
    samples = read_speech(shared)
    words = transcribe(samples, return_timestamps="word")["chunks"]
    assert [word["text"].strip().lower().strip(",.") for word in words] == SAID.split()
    starts = [word["timestamp"][0] for word in words]
    assert starts == sorted(starts)
    assert starts[-1] > 1


SAID = "every measure pursued by the commons"


def read_speech(shared) -> np.ndarray:
    import soundfile

    path = shared / "data" / "librispeech" / "dev" / "8226-274369-0000.opus"
    return soundfile.read(path, dtype="float32")[0]
