"""Going on from a checkpoint: what is frozen, what is new, adapters, timestamps, when to stop."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSpeechSeq2Seq

from echo.checkpoints.load import load_model
from echo.checkpoints.run import CheckpointFolder
from echo.config import LoraSettings
from echo.data.build import build_corpus
from echo.data.examples import ExampleReader
from echo.data.tokenizer import Segment, encode_transcript, join_segments, load_tokenizer
from echo.model.geometry import SAMPLE_RATE, Limits
from echo.model.whisper_names import new_parameters
from echo.support.errors import ConfigError, DataError, EchoError
from echo.train.build import build_tokenizer
from echo.train.lora import adapted_layers, add_adapters
from echo.train.optimiser import build_optimiser, freeze
from echo.train.recorder import read_metrics
from echo.train.run import resume_run, start_run, started_trainer
from tests.train.test_loop import (
    StopError,
    assert_resumes_exactly,
    assert_same_run,
    losses,
    stop_after,
    tiny,
    weights,
)


@pytest.fixture(scope="module")
def start(shared, tmp_path_factory):
    """A run whose last checkpoint others begin with."""
    run = tmp_path_factory.mktemp("start")
    start_run(tiny(shared, train={"max_steps": 2}), run)
    return run


def from_start(shared, start, **changes):
    path = CheckpointFolder(start).path("last")
    return tiny(shared, **{"init": str(path), "loss": {"ctc_weight": 0.3}, **changes})


def test_frozen_modules_stay_as_they_are(shared, start, tmp_path):
    config = from_start(shared, start, train={"freeze": ["encoder.conv1", "decoder"]})
    start_run(config, tmp_path)
    before, after = weights(start), weights(tmp_path)
    for name in before:
        frozen = name.startswith(("model.encoder.conv1", "model.decoder")) or "positions" in name
        assert torch.equal(before[name], after[name]) == frozen, name


def test_what_cannot_be_frozen_is_named(start):
    model = load_model(str(start), "last").model
    with pytest.raises(ConfigError, match=r"the model has no module 'encoder\.conv'"):
        freeze(model, ["encoder.conv"])


def test_what_whisper_lacks_may_learn_at_a_rate_of_its_own(shared, start):
    model = load_model(str(start), "last").model
    new = new_parameters(model)
    assert {name.split(".")[-1] for name in new} == {"local_gain", "weight", "bias"}
    assert all("local_gain" in n or "span_predictor" in n or "ctc_head" in n for n in new)
    settings = tiny(shared, train={"learning_rate": 1e-4, "new_learning_rate": 1e-2}).train
    rates = {}
    for group in build_optimiser(model, settings).param_groups:
        rates |= dict.fromkeys(map(id, group["params"]), group["lr"])
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert rates[id(parameter)] == (1e-2 if name in new else 1e-4), name


@pytest.mark.parametrize(
    ("optimiser", "lora"),
    [("adamw", None), ("adafactor", None), ("muon", None), ("adamw", {"rank": 2})],
)
def test_a_resumed_run_has_the_rates_of_its_parts(
    shared, start, tmp_path, monkeypatch, optimiser, lora
):
    """A rate of 0 leaves a part as it is; the rates of both parts are logged."""
    train = {"optimiser": optimiser, "learning_rate": 1e-2, "rates": {"decoder": 0}}
    config = from_start(shared, start, lora=lora, train=train)
    assert_resumes_exactly(config, tmp_path, monkeypatch, 5)
    before, after = weights(start), weights(tmp_path / "whole")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "model.encoder.layers.0.self_attn.q_proj.weight" in changed
    assert not any(name.startswith("model.decoder") for name in changed)
    logged = [e for e in read_metrics(tmp_path / "whole") if e["kind"] == "train"]
    assert all(event["learning_rate/decoder"] == 0 for event in logged)
    assert max(event["learning_rate"] for event in logged) == pytest.approx(1e-2)
    with pytest.raises(ConfigError, match=r"train\.rates\.decoder cannot change"):
        resume_run(tmp_path / "whole", overrides=["train.rates.decoder=1"])


def test_a_decoder_that_no_loss_needs_does_not_learn(shared, start, tmp_path):
    loss = {"ctc_weight": 1.0, "alignment_weight": 0.0}
    rated = from_start(shared, start, loss=loss, train={"rates": {"decoder": 0.1}})
    with pytest.raises(ConfigError, match=r"train\.rates: 'decoder' has no effect"):
        start_run(rated, tmp_path / "rated")
    state = started_trainer(from_start(shared, start, loss=loss), tmp_path / "run").state
    learn = {name for name, weight in state.unwrapped.named_parameters() if weight.requires_grad}
    assert {name.split(".")[0] for name in learn} == {"model", "ctc_head"}
    assert not any(name.startswith("model.decoder.") for name in learn)


def test_training_stops_when_the_wer_has_not_got_better(shared, tmp_path, monkeypatch):
    found = iter([0.5, 0.4, 0.4, 0.45, 0.1])
    monkeypatch.setattr("echo.train.measuring.Measuring.wer", lambda *_: next(found))
    config = tiny(shared, train={"eval_every": 1, "max_steps": 9, "patience": 2})
    assert start_run(config, tmp_path).step == 4
    folder = CheckpointFolder(tmp_path)
    assert folder.path("last").name == "step-000004"
    assert folder.path("best").name == "step-000002"
    assert resume_run(tmp_path).step == 4  # which is where it ended


def test_adapters_are_trained_merged_into_a_plain_folder_and_resumed(
    shared, start, tmp_path, monkeypatch
):
    config = from_start(shared, start, lora={"rank": 4}, train={"learning_rate": 1e-2})
    start_run(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(StopError):
            start_run(config, tmp_path / "broken")
    resume_run(tmp_path / "broken")
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    before, after = weights(start), weights(tmp_path / "whole")
    assert before.keys() == after.keys()
    for name, weight in before.items():
        changed = any(part in name for part in ("q_proj.weight", "v_proj.weight", "local_gain"))
        changed |= "span_predictor" in name or "ctc_head" in name
        assert torch.equal(weight, after[name]) != changed, name
    loaded = AutoModelForSpeechSeq2Seq.from_pretrained(
        CheckpointFolder(tmp_path / "whole").path("last")
    )
    assert not any("lora" in name for name in loaded.state_dict())


@pytest.mark.parametrize(
    ("changes", "user"),
    [
        ({"lora": {"rank": 4}}, "lora"),
        ({"loss": {"anchor_kl": 0.5}}, r"loss\.anchor_kl"),
        ({"loss": {"teacher": {"model": "START"}}}, r"loss\.teacher"),
    ],
    ids=["lora", "anchor", "teacher"],
)
def test_a_run_goes_on_beside_the_weights_that_it_began_with(
    shared, start, tmp_path, monkeypatch, changes, user
):
    """Though the run that it began with, or learns from, has better ones by then."""
    first = tmp_path / "first"
    shutil.copytree(CheckpointFolder(start).path("last"), first)
    text = json.dumps(changes).replace("START", str(first))
    config = tiny(shared, init=str(first), **json.loads(text))
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(StopError):
            start_run(config, tmp_path / "run")
    held = load_file(first / "model.safetensors")
    held["model.decoder.layer_norm.bias"] += 1
    save_file(held, first / "model.safetensors", metadata={"format": "pt"})
    (first / "checksums.json").unlink()
    with pytest.raises(EchoError, match=f"the model for {user} has other weights than when"):
        resume_run(tmp_path / "run")


def test_a_new_layer_is_trained_whole_beside_its_adapter(shared, start):
    model = load_model(str(start), "last").model
    add_adapters(model, LoraSettings(rank=2, targets=["ctc_head", "q_proj"]))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {"ctc_head.base_layer.weight", "ctc_head.base_layer.bias"} <= trained
    assert not any("q_proj.base_layer" in name for name in trained)


@pytest.mark.parametrize(
    "targets", [["conv1", "fc1"], ["embed_tokens"], ["proj_out"], ["embed_tokens", "proj_out"]]
)
def test_what_an_adapter_learned_is_in_the_merged_model_and_beside_it(
    shared, start, tmp_path, targets
):
    """Both compute what the trained model does, also where weights are tied."""
    train = {"learning_rate": 3e-2, "max_steps": 3, "eval_utterances": 1}
    config = from_start(shared, start, lora={"rank": 2, "targets": targets}, train=train)
    trainer = started_trainer(config, tmp_path)
    trainer.train()
    features, ids = torch.randn(1, 80, 100), torch.tensor([[1, 4, 5, 6]])

    def logits(model):
        with torch.no_grad():
            return model.eval()(input_features=features, decoder_input_ids=ids).logits

    expected = logits(trainer.state.unwrapped)
    path = CheckpointFolder(tmp_path).path("last")
    base = load_model(config.init).model
    assert (logits(base) - expected).abs().max() > 0.1
    torch.testing.assert_close(logits(load_model(str(path)).model), expected)
    peft = PeftModel.from_pretrained(base, path / "adapter")
    assert peft.peft_config["default"].base_model_name_or_path == Path(config.init).name
    torch.testing.assert_close(logits(peft), expected)


@pytest.mark.parametrize("targets", [["q_proj", "fc1"], ["conv1", "embed_tokens"]])
def test_dora_and_a_stabilised_rank_are_in_the_merged_model_and_beside_it(
    shared, start, tmp_path, targets
):
    lora = {"rank": 4, "alpha": 8, "dora": True, "rank_stabilised": True, "targets": targets}
    train = {"learning_rate": 3e-2, "max_steps": 3, "eval_utterances": 1}
    config = from_start(shared, start, lora=lora, train=train)
    trainer = started_trainer(config, tmp_path)
    layers = adapted_layers(trainer.state.unwrapped)
    assert {layer.scaling["default"] for layer in layers.values()} == {8 / 4**0.5}
    lengths = [layer.lora_magnitude_vector["default"].weight for layer in layers.values()]
    before = [length.detach().clone() for length in lengths]
    trainer.train()
    assert not any(torch.equal(a, b) for a, b in zip(before, lengths, strict=True))
    features, ids = torch.randn(1, 80, 100), torch.tensor([[1, 4, 5, 6]])

    def logits(model):
        with torch.no_grad():
            return model.eval()(input_features=features, decoder_input_ids=ids).logits

    expected = logits(trainer.state.unwrapped)
    path = CheckpointFolder(tmp_path).path("last")
    torch.testing.assert_close(logits(load_model(str(path)).model), expected)
    peft = PeftModel.from_pretrained(load_model(config.init).model, path / "adapter")
    torch.testing.assert_close(logits(peft), expected)


def test_a_refiner_is_kept_beside_adapters_and_by_a_resumed_run(shared, tmp_path, monkeypatch):
    """It learns in buffers, which are resumed, merged and loaded with the weights."""
    attention = {"encoder": {"form": "focus", "refiner": True}, "decoder": "plain"}
    start_run(tiny(shared, model={"attention": attention}, train={"max_steps": 2}), tmp_path / "s")
    train = {"learning_rate": 1e-2, "max_steps": 5, "eval_utterances": 1}
    config = from_start(shared, tmp_path / "s", lora={"rank": 2}, train=train)
    start_run(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(StopError):
            start_run(config, tmp_path / "broken")
    torch.manual_seed(99)  # a new process would have other numbers to draw
    resume_run(tmp_path / "broken")
    assert_same_run(tmp_path / "broken", tmp_path / "whole")

    path = CheckpointFolder(tmp_path / "whole").path("last")
    base, found = weights(tmp_path / "s"), weights(tmp_path / "whole")
    peft = PeftModel.from_pretrained(load_model(config.init).model, path / "adapter")
    loaded = [dict(m.named_buffers()) for m in (load_model(str(path)).model, peft.base_model.model)]
    names = [name for name in base if ".refiner." in name]
    assert len(names) == 6  # values, seed and calls of both layers
    for name in names:
        assert torch.equal(base[name], found[name]) == name.endswith("seed"), name
        assert all(torch.equal(buffers[name], found[name]) for buffers in loaded), name


def test_a_layer_that_cannot_have_an_adapter_is_named(shared, start, tmp_path):
    config = from_start(shared, start, lora={"targets": ["embed_positions"]})
    with pytest.raises(ConfigError, match=r"lora.targets: .*embed_positions cannot have an adap"):
        start_run(config, tmp_path)


@pytest.mark.parametrize("others", [[], ["q_proj"]])
def test_a_target_that_the_model_lacks_is_an_error(shared, start, tmp_path, others):
    config = from_start(shared, start, lora={"targets": [*others, "no_such_layer"]})
    with pytest.raises(ConfigError, match="no_such_layer"):
        start_run(config, tmp_path)


def test_timestamps_are_taught_as_whisper_writes_them(shared):
    tokenizer = load_tokenizer(shared / "models" / "whisper-tiny.en")
    plain = encode_transcript(tokenizer, "we call it bear")
    timed = join_segments(tokenizer, [Segment(0.0, 2.587, plain)])
    decoded = tokenizer.decode(timed, decode_with_timestamps=True)
    assert decoded == "<|startoftranscript|><|0.00|> we call it bear<|2.58|><|endoftext|>"
    assert len(timed) == len(plain) + 1


def test_a_tokenizer_without_timestamps_is_an_error(shared):
    config = tiny(shared)
    tokenizer = build_tokenizer(config, build_corpus(config.data, 1).train_epoch(0))
    with pytest.raises(DataError, match="has no timestamps to teach"):
        join_segments(tokenizer, [Segment(0.0, 1.0, encode_transcript(tokenizer, "one"))])


def test_silence_follows_an_utterance_as_far_as_the_encoder_takes_it(shared):
    config = tiny(shared)
    utterance = build_corpus(config.data, 1).eval_utterances()[0]
    length = len(utterance.audio.load())

    def frames(**silence):
        limits = Limits(80, 1000, 40, **silence)
        return ExampleReader(None, limits, labelled=False).read(utterance).features.shape[1]

    assert frames() == -(-length // 160)
    assert frames(added_silence=1.0) == -(-(length + SAMPLE_RATE) // 160)
    assert frames(pad_to_seconds=8.0) == 800
    assert frames(pad_to_seconds=8.0, added_silence=9.9) == 1000


def test_a_run_writes_how_it_padded_into_the_model(shared, tmp_path):
    config = tiny(shared, data={"pad_to": 6, "added_silence": 0.5}, train={"max_steps": 1})
    start_run(config, tmp_path)
    model = load_model(str(tmp_path), "last").model
    assert (model.config.pad_to_seconds, model.config.added_silence) == (6, 0.5)
    assert read_metrics(tmp_path)
