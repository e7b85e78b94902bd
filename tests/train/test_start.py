"""What a run begins with: settings that a checkpoint replaces, and attention that it is given."""

import json

import pytest
import torch
from transformers import WhisperForConditionalGeneration

from echo.attention.forms import FORMS
from echo.checkpoints.convert import convert
from echo.checkpoints.load import load_model
from echo.checkpoints.run import CheckpointFolder
from echo.config import RunConfig, load_run_config
from echo.support.errors import ConfigError
from echo.support.settings import build, merge, to_dict
from echo.support.yaml import save_yaml
from echo.train.check import FOR_SOURCES, check_run
from echo.train.run import resume_run, start_run
from echo.train.start import is_config_of, starting_point
from tests.data.recordings import write, write_manifest
from tests.small_whisper import edit, save_whisper, small_whisper
from tests.train.test_loop import StopError, assert_same_run, stop_after

FORMS_TO_BEGIN = sorted(FORMS)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("whisper")
    save_whisper(small_whisper(), folder)
    edit("generation_config.json", is_multilingual=False)(folder)
    return folder


@pytest.fixture
def settings(whisper, tmp_path):
    """Makes the config of a run that begins with the Whisper, or another."""
    for name in ("a", "b"):
        write(tmp_path / f"{name}.wav")
    rows = [{"audio_filepath": f"{n}.wav", "text": "the fox", "duration": 1.0} for n in ("a", "b")]
    data = str(write_manifest(tmp_path / "data.jsonl", *rows))

    def config(**changes):
        content = {
            "init": str(whisper),
            "data": {"train": data, "eval": data, "workers": 0},
            "train": {"max_steps": 3, "log_every": 1, "checkpoint_every": 1, "eval_utterances": 1},
        }
        return build(RunConfig, merge(content, changes), "test")

    return config


@pytest.mark.parametrize("form", FORMS_TO_BEGIN)
def test_an_attention_with_a_whisper_makes_what_convert_makes(whisper, settings, tmp_path, form):
    attention = {"encoder": [form, "plain"], "decoder": form}
    model, *_ = starting_point(settings(model={"attention": attention}), None)
    convert(whisper, tmp_path / "converted", [f"attention={json.dumps(attention)}"])
    expected = load_model(str(tmp_path / "converted")).model
    assert [b.form for b in model.config.encoder_attention()] == [form, "plain"]
    assert model.state_dict().keys() == expected.state_dict().keys()
    for name, weight in expected.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name
    plain = WhisperForConditionalGeneration.from_pretrained(whisper).eval()
    features, ids = torch.randn(1, 80, 200), torch.tensor([[1, 4, 5]])
    with torch.no_grad():
        torch.testing.assert_close(
            model(features, decoder_input_ids=ids).logits,
            plain(features, decoder_input_ids=ids).logits,
            atol=1e-4,
            rtol=1e-4,
        )


@pytest.mark.slow
def test_such_a_run_trains_and_resumes_as_the_converted_one_and_says_what_it_is(
    whisper, settings, tmp_path, monkeypatch
):
    attention = {"encoder": "hybrid", "decoder": "plain"}
    config = settings(model={"attention": attention})
    start_run(config, tmp_path / "run")
    convert(
        whisper, tmp_path / "converted", ["attention.encoder=hybrid", "attention.decoder=plain"]
    )
    start_run(settings(init=str(tmp_path / "converted")), tmp_path / "other")
    assert_same_run(tmp_path / "run", tmp_path / "other")
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(StopError):
            start_run(config, tmp_path / "broken")
    resume_run(tmp_path / "broken")
    assert_same_run(tmp_path / "broken", tmp_path / "run")
    stored = load_run_config(tmp_path / "run").model
    assert (stored.d_model, stored.heads, stored.encoder_layers, stored.ffn_dim) == (48, 4, 2, 96)
    assert (stored.max_seconds, stored.max_tokens, stored.dropout) == (2.0, 32, 0.0)
    assert stored.attention == attention
    card = (CheckpointFolder(tmp_path / "run").path("last") / "README.md").read_text()
    assert "encoder: hybrid" in card
    assert "d_model: 48" in card


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": {"d_model": 999}},
            "model.d_model is 999, but has no effect with init: .* 48; ",
        ),
        # Its default, but given:
        ({"model": {"d_model": 144}}, "model.d_model is 144, but has no effect with init: .* 48; "),
        ({"model": {"conv_gain": 1.0}}, "model.conv_gain is 1.0, but has no effect with init"),
        # Its default, which says nothing of the checkpoint's weights:
        (
            {"model": {"conv_gain": 2.0}},
            "model.conv_gain is 2.0, but has no effect with init: .* has weights of its own; leave",
        ),
        ({"tokenizer": {"kind": "bpe"}}, "tokenizer.kind is 'bpe', but has no effect with init"),
        ({"tokenizer": {"size": 300}}, "tokenizer.size is 300, but has no effect with init"),
        ({"model": {"attention": {"encodr": "focus"}}}, "attention has no stack 'encodr'"),
        (
            {"model": {"attention": {"encoder": {"rotary_base": 10}}}},
            "attention has a rotary_base, with which a block cannot begin as Whisper",
        ),
        ({"init": None, "lora": {}}, "lora needs init"),
        ({"init": None, "tokenizer": {"size": 300}}, "tokenizer.size is for tokenizer.kind=bpe"),
    ],
)
def test_settings_without_effect_are_refused(settings, changes, message):
    with pytest.raises(ConfigError, match=message):
        starting_point(settings(**changes), None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"attention": {"encodr": "focus"}}}, "model.attention has no stack 'encodr'"),
        ({"model": {"attention": {"encoder": "focused"}}}, "model.attention.encoder: form is"),
        (
            {"model": {"attention": {"encoder": ["plain"]}}},
            "model.attention.encoder lists 1 blocks, but there are 2 layers",
        ),
        (
            {"model": {"attention": {"decoder": {"form": "adaptive", "global_stride": 2}}}},
            "model.attention.decoder has a global_stride",
        ),
        ({"init": None, "model": {"d_model": 30, "heads": 4}}, "model: .*divisible"),
        ({"init": None, "lora": {}}, "lora needs init"),
        ({"loss": {"alignment_weight": 1}}, "alignment_weight needs a trained CTC head"),
        (
            {"loss": {"ctc_weight": 1, "label_smoothing": 0.1}},
            "loss.label_smoothing has no effect with loss.ctc_weight=1",
        ),
        ({"decode": {"ctc_alone": True}}, "decode.ctc_alone needs a CTC head"),
        (
            {"decode": {"ctc_alone": True, "ctc_weight": 0.3}, "loss": {"ctc_weight": 0.3}},
            "decode.ctc_weight has no effect with decode.ctc_alone: leave it out",
        ),
        ({"data": {"root": "fsdd"}}, "data.root has no effect without data.corpus: leave it out"),
        ({"data": {"cache_gigabytes": 1}}, "data.cache_gigabytes has no effect without data.cache"),
        ({"data": {"pack": {"share": 0}}}, "data.pack has no effect with data.pack.share=0"),
        (
            {"data": {"augment": {"freq_masks": 0, "freq_mask_width": 9}}},
            "freq_mask_width has no effect with data.augment.freq_masks=0",
        ),
        (
            {"data": {"augment": {"time_masks": 0, "time_mask_share": 0.2}}},
            "time_mask_share has no effect with data.augment.time_masks=0",
        ),
    ],
)
@pytest.mark.parametrize("init", [True, False])
def test_settings_are_checked_before_data_are_read_and_a_folder_is_written(
    settings, tmp_path, init, changes, message
):
    nothing = {"data": {"train": "none.jsonl", "eval": "none.jsonl"}}
    scratch = {"init": None, "model": {"encoder_layers": 2}, "loss": {"ctc_weight": 0.0}}
    config = settings(**merge(merge(nothing, {} if init else scratch), changes))
    with pytest.raises(ConfigError, match=message):
        start_run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("setting", FOR_SOURCES)
def test_a_built_in_corpus_has_no_use_for_the_settings_of_sources(settings, setting):
    other = {"allow_outside": True, "streaming": True, "shards_per_block": 2}.get(setting, "a")
    config = settings(data={"corpus": "espeak", setting: other}, init=None)
    with pytest.raises(ConfigError, match=rf"data\.{setting} has no effect with data\.corpus"):
        check_run(config)


def test_an_attention_of_its_own_leaves_the_padding_of_a_checkpoint(settings, tmp_path, whisper):
    """By which it is measured before training."""
    start_run(settings(data={"pad_to": "batch", "added_silence": 1.0}), tmp_path / "run")
    init = str(CheckpointFolder(tmp_path / "run").path("last"))
    begun = starting_point(settings(init=init, model={"attention": {"encoder": "adaptive"}}), None)
    assert (begun.heard.pad_to_seconds, begun.heard.added_silence) == (0, 1)


def test_a_run_may_hold_what_was_not_given(settings, tmp_path):
    """Such as defaults of the model, in the config.yaml of a run of an earlier version."""
    save_yaml(to_dict(settings()), tmp_path / "config.yaml")
    model, *_ = starting_point(load_run_config(tmp_path), None)
    assert model.config.d_model == 48


def test_settings_that_are_the_checkpoint_s_own_are_not_refused(settings):
    same = {"d_model": 48, "attention": {"encoder": "plain", "decoder": {"form": "plain"}}}
    model, *_ = starting_point(settings(model=same), None)
    assert all(block.is_plain for block in model.config.encoder_attention())


def test_a_run_is_known_again_by_what_was_given(settings, tmp_path):
    """Its config.yaml holds more than that, and in earlier versions other settings of the model."""
    attention = {"encoder": "adaptive"}
    config = settings(model={"attention": attention})
    start_run(config, tmp_path / "run")
    stored = load_run_config(tmp_path / "run")
    assert is_config_of(config, stored)
    assert is_config_of(settings(), stored)
    assert is_config_of(settings(model={"attention": {"encoder": {"form": "adaptive"}}}), stored)
    assert not is_config_of(settings(model={"attention": {"encoder": "focus"}}), stored)
    assert not is_config_of(settings(model={"heads": 8}), stored)
    assert not is_config_of(settings(seed=2), stored)
    earlier = settings()
    assert is_config_of(earlier, earlier)
    assert not is_config_of(config, earlier)


def test_the_attention_of_an_echo_model_is_not_changed(settings, tmp_path, whisper):
    convert(whisper, tmp_path / "converted")
    changed = settings(init=str(tmp_path / "converted"), model={"attention": {"encoder": "focus"}})
    with pytest.raises(ConfigError, match=r"model.attention differs from that of .*converted"):
        starting_point(changed, None)


def test_a_model_larger_than_the_memory_is_refused_before_it_is_made():
    model = {"d_model": 65536, "heads": 1, "ffn_dim": 2**20, "encoder_layers": 2}
    with pytest.raises(ConfigError, match=r"its weights take .* GB, but the memory has"):
        check_run(build(RunConfig, {"model": model}, "test"))
