"""The form of docs/add_a_form.md, added from outside, takes part in all that Echo does."""

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSpeechSeq2Seq

from echo.attention.forms import FORMS
from echo.attention.global_branch import split_heads
from echo.checkpoints.convert import convert
from echo.checkpoints.load import load_model
from echo.config import load_config
from echo.inspect.inspect import inspect_recording
from echo.support.errors import ConfigError
from echo.train.build import build_model
from echo.train.recorder import read_metrics
from echo.train.run import start_run
from tests.inspect.test_inspect import tiny as tiny_model
from tests.small_whisper import TOKENIZER, save_whisper, small_whisper
from tests.train.test_loop import tiny as tiny_config

PAGE = Path(__file__).parents[2] / "docs" / "add_a_form.md"


@pytest.fixture(autouse=True, scope="module")
def fixed_form(tmp_path_factory):
    """The page's module, imported; afterwards its form is unknown again."""
    folder = tmp_path_factory.mktemp("form")
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (folder / "fixed_form.py").write_text(code)
    before = dict(FORMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield importlib.import_module("fixed_form")
        del sys.modules["fixed_form"]
    FORMS.clear()
    FORMS.update(before)


def logits(model):
    torch.manual_seed(1)
    features, ids = torch.randn(2, 80, 200), torch.randint(3, 9, (2, 8))
    with torch.no_grad():
        return model.eval()(features, decoder_input_ids=ids).logits


def focused(model):
    return [module for module in model.modules() if type(module).__name__ == "FixedAttention"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "sharpnes: 2",
            "model.attention.encoder: unknown key 'sharpnes'; did you mean sharpness",
        ),
        ("sharpness: 99", "model.attention.encoder: sharpness is 99, but must be from 0.1 to 10"),
        ("sharpness: high", "sharpness is 'high', but must be a number"),
        ("max_span: 0", "model.attention.encoder: max_span is 0, but must be 1 or more"),
        ("ramp: 3", "model.attention.encoder: ramp belongs to adaptive, convolution, not to fixed"),
    ],
)
def test_its_settings_are_validated(tmp_path, setting, message):
    path = tmp_path / "config.yaml"
    path.write_text(f"model: {{attention: {{encoder: {{form: fixed, {setting}}}}}}}\n")
    with pytest.raises(ConfigError, match=message) as error:
        build_model(load_config(path), TOKENIZER)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_it_trains_and_is_watched_and_loaded(shared, tmp_path, caplog):
    attention = {"encoder": {"form": "fixed", "sharpness": 2}, "decoder": "fixed"}
    config = tiny_config(shared, model={"attention": attention}, train={"max_steps": 2})
    assert start_run(config, tmp_path / "run").step == 2
    assert "at its bound" not in caplog.text  # the span is not learned
    logged = [event for event in read_metrics(tmp_path / "run") if event["kind"] == "train"]
    assert logged[0]["span/encoder.0"] == logged[0]["span/decoder.0"] == 1
    assert logged[0]["temperature/encoder.1"] == 0.5
    assert logged[0]["entropy_local/encoder.0"] > 0
    assert logged[0]["gain/encoder.0"] != logged[1]["gain/encoder.0"]

    loaded = load_model(str(tmp_path / "run"), "last").model
    assert len(focused(loaded)) == 3
    loaded.save_pretrained(tmp_path / "again")
    again = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path / "again")
    assert torch.equal(logits(again), logits(loaded))


def test_it_begins_as_a_whisper_and_decodes_with_a_cache(tmp_path):
    whisper = small_whisper()
    source = save_whisper(whisper, tmp_path / "whisper")
    settings = ["attention.encoder=fixed", "attention.decoder={form: fixed, max_span: 3}"]
    convert(source, tmp_path / "echo", settings)
    echo = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path / "echo")
    assert len(focused(echo)) == 4
    expected = logits(whisper)
    torch.testing.assert_close(logits(echo), expected, rtol=0, atol=1e-4)

    with torch.no_grad():
        for block in focused(echo):
            block.local_gain.normal_()
    assert (logits(echo) - expected).abs().max() > 0.1
    features = torch.randn(2, 80, 200)
    found = [
        echo.generate(features, language="en", num_beams=2, max_length=20, use_cache=use_cache)
        for use_cache in (True, False)
    ]
    assert torch.equal(*found)
    assert found[0].shape[1] > 6  # more than the prompt
    with pytest.raises(ConfigError, match="rotary_base, with which a block cannot begin"):
        convert(source, tmp_path / "other", ["attention.encoder={form: fixed, rotary_base: 100}"])


def test_it_is_inspected(shared):
    loaded = tiny_model({"form": "fixed", "max_span": 5}, {"form": "fixed", "max_span": 2})
    digit = shared / "data" / "fsdd" / "recordings" / "0_george_0.wav"
    inspection = inspect_recording(loaded, digit)
    blocks = focused(loaded.model)
    for layer, block, reach in zip(inspection.layers(), blocks, (5, 5, 2, 2), strict=True):
        numbers = layer.numbers.to_dict()
        assert (numbers["form"], numbers["span"], numbers["temperature"]) == ("fixed", [1], [1])
        x = inspection.inputs[block]["hidden_states"][0]
        with torch.no_grad():
            query, key = (split_heads(p(x[None]), 2)[0] for p in (block.q_proj, block.k_proj))
        T = len(x)
        distance = torch.arange(T)[:, None] - torch.arange(T)
        near = (distance.abs() <= reach) & ((distance >= 0) | (not block.causal))
        scores = (query @ key.mT / 16**0.5).masked_fill(~near, -torch.inf)
        torch.testing.assert_close(layer.local, scores.softmax(-1), rtol=0, atol=1e-6)
