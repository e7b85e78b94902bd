"""Exporting as a command: what is refused, the card, and CTranslate2's own converter."""

import re

import pytest
import torch
from huggingface_hub import ModelCard

from echo.checkpoints.convert import convert
from echo.checkpoints.ctranslate2 import CTranslate2Folder
from echo.checkpoints.export.card import MeasuredWer
from echo.checkpoints.export.export import export
from echo.support.errors import ConfigError, EchoError
from tests.small_whisper import save_whisper, small_whisper, weights


@pytest.fixture
def source(tmp_path):
    return save_whisper(small_whisper(), tmp_path / "small")


@pytest.mark.parametrize("target", ["whisper", "ctranslate2", "ggml"])
def test_focused_attention_is_refused_in_a_sentence(source, tmp_path, target):
    convert(source, tmp_path / "echo")
    said = r"block 0 of its encoder is adaptive, not plain; --to onnx supports it"
    with pytest.raises(ConfigError, match=said):
        export(tmp_path / "echo", tmp_path / "out", target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["echo", "small"]


@pytest.mark.parametrize(
    ("target", "quantization", "said"),
    [
        ("gguf", None, "must be one of: whisper, ctranslate2, ggml, onnx"),
        ("whisper", "int8", "for whisper it must be left out"),
        ("onnx", "int4", "for onnx it must be one of: float32, int8"),
    ],
)
def test_targets_and_precisions_are_checked_before_the_model(tmp_path, target, quantization, said):
    with pytest.raises(ConfigError, match=said):
        export("no/such/model", tmp_path / "out", target, quantization)


def test_a_folder_in_use_is_refused_before_the_model_is_read(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(EchoError, match="exists, and is not an empty folder"):
        export("no/such/model", tmp_path / "out", "whisper")


def test_nothing_is_left_of_a_failure(source, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr("echo.checkpoints.export.whisper.write_whisper", fail)
    with pytest.raises(EchoError, match="cannot be written"):
        export(source, tmp_path / "out", "whisper")
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_ctranslate2_holds_the_same_weights(english, tmp_path, quantization):
    pytest.importorskip("ctranslate2")
    export(english, tmp_path / "out", "ctranslate2", quantization)
    found, expected = CTranslate2Folder(tmp_path / "out").weights, weights(english)
    largest = max(float(tensor.abs().max()) for tensor in expected.values())
    for key, tensor in expected.items():
        off = largest / 100 if quantization else 0
        torch.testing.assert_close(found[key].load(torch.float32), tensor, rtol=0, atol=off)
    assert {"tokenizer.json", "preprocessor_config.json", "README.md"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }


def test_ctranslate2_needs_whisper_s_special_tokens(source, tmp_path):
    pytest.importorskip("ctranslate2")
    with pytest.raises(ConfigError, match=r"a tokenizer without <\|startofprev\|>"):
        export(source, tmp_path / "out", "ctranslate2")


def test_the_card_says_what_the_hub_and_a_reader_need(source, tmp_path):
    (source / "README.md").write_text("---\nlicense: mit\nbase_model: openai/whisper-tiny\n---\n")
    wer = MeasuredWer("WER", 0.1234, "300", (0.1, 0.15))
    export(source, tmp_path / "out", "whisper", measured=lambda _: [wer])
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert (card.data.license, card.data.base_model) == ("mit", "openai/whisper-tiny")
    assert card.data.library_name == "transformers"
    [result] = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("wer", 12.34)
    assert re.search(r"\| WER +\| 12.34 % \| 10.00 % to 15.00 % \| +300 \|", card.text)
    assert "echo-asr export small out --to whisper\n" in card.text
    assert str(tmp_path) not in card.text
