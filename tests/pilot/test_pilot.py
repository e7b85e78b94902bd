"""The pilot on real recordings, end to end with tiny models."""

import json
import os
import signal

import pytest

from echo.evaluate.summary import render
from echo.pilot.contenders import read_pilot
from echo.pilot.result import pilot_result
from echo.pilot.run import run_pilot
from echo.support.errors import ConfigError, StoppedError
from echo.support.settings import merge
from tests.train.test_loop import TINY
from tests.train.test_robust import after_step

MODELS = {
    "echo": {"model": {"attention": {"encoder": "adaptive"}}},
    "no_ctc": {"loss": {"ctc_weight": 0.0}, "model": {"attention": {"encoder": "plain"}}},
    "whisper": {"model": {"attention": {"encoder": "plain"}}},
}
UTTERANCES = 6


@pytest.fixture
def content(shared, tmp_path):
    """A pilot on six utterances, which are measured on too."""
    folder = shared / "data" / "speechocean762"
    lines = (folder / "train.jsonl").read_text().splitlines()[:UTTERANCES]
    rows = [json.loads(line) for line in lines]
    for row in rows:
        row["audio_filepath"] = str(folder / row["audio_filepath"])
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"train": str(manifest), "eval": str(manifest), "allow_outside": True}
    changes = {
        "data": {"corpus": None, "workers": 0, **source},
        "train": {"eval_every": 2},
        "budget": {"steps": 5},
        "turn": 2,
        "models": MODELS,
    }
    return merge(TINY, changes)


def timeless(value):
    """Results without what depends on the clock, or on what else the process allocates."""
    if isinstance(value, dict):
        return {
            key: timeless(each)
            for key, each in value.items()
            if key not in ("equal_seconds", "rtfx", "utterances_per_second")
            and "memory" not in key
            and "seconds" not in key.replace("audio_seconds", "")
        }
    return [timeless(each) for each in value] if isinstance(value, list) else value


@pytest.mark.slow
def test_all_models_are_trained_measured_and_shown(content, tmp_path, monkeypatch):
    out = tmp_path / "out"
    pilot = read_pilot(content, "test", seeds=[1, 2])
    result = run_pilot(pilot, out)
    assert json.loads((out / "pilot.json").read_text()) == json.loads(json.dumps(result))
    assert (out / "table.md").read_text() == render(pilot_result(result))
    assert [model["model"] for model in result["models"]] == [*MODELS]
    for model in result["models"]:
        assert model["steps"] == {"mean": 5, "least": 5, "most": 5}
        assert (model["wer_decoder"] is None) == (model["model"] == "no_ctc")
        assert (model["attention"] is None) == (model["model"] != "echo")
        assert model["training_memory_bytes"]["least"] > 12 * model["parameters"]
        flops = model["training_flops_per_second"]
        assert flops["least"] == flops["most"] > model["parameters"]
        for seed in ("1", "2"):
            run = out / model["model"] / f"seed-{seed}"
            for decoding, folder in (("joint", "evaluation"), ("decoder", "evaluation-decoder")):
                measured = model["measured"][seed][decoding]
                assert (measured is not None) == (run / folder).exists()
                if measured:
                    assert json.loads((run / folder / "evaluation.json").read_text()) == measured
    for found in result["differences"].values():
        assert [*found] == ["echo", "no_ctc"]
    assert result["resampling"]["utterances"] == UTTERANCES
    assert result["resampling"]["seeds"] == 2
    rate = {m["model"]: m["wer"]["mean"] for m in result["models"]}
    difference = result["differences"]["joint"]["echo"]["difference"]
    assert difference == pytest.approx(rate["echo"] - rate["whisper"])

    # Started again it has nothing to train or measure; a further seed is all that is trained.
    with monkeypatch.context() as patch:
        patch.setattr("echo.pilot.run.train_in_turn", None)
        patch.setattr("echo.pilot.run.measure_run", None)
        assert run_pilot(pilot, out) == result
    more = run_pilot(read_pilot(content, "test", seeds=[2, 3]), out)
    assert more["models"][0]["measured"]["2"] == result["models"][0]["measured"]["2"]
    with pytest.raises(ConfigError, match=r"echo/seed-1: holds a run with other settings"):
        run_pilot(read_pilot(content, "test", ["budget.steps=6"], [1]), out)
    with pytest.raises(ConfigError, match=r"new/seed-1: the other runs .* are already trained"):
        run_pilot(read_pilot(content, "test", ["models.new={}"], [1]), out)


@pytest.mark.slow
def test_an_interrupted_pilot_comes_to_the_same_table(content, tmp_path, monkeypatch):
    pilot = read_pilot(content, "test")
    whole = run_pilot(pilot, tmp_path / "whole")
    after_step(monkeypatch, 3, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(StoppedError, match="broken: stopped by SIGINT"):
        run_pilot(pilot, tmp_path / "broken")
    monkeypatch.undo()
    assert not (tmp_path / "broken" / "pilot.json").exists()
    assert timeless(run_pilot(pilot, tmp_path / "broken")) == timeless(whole)


@pytest.mark.slow
def test_a_budget_of_seconds_stops_each_and_lets_the_others_go_on(content, tmp_path):
    content["budget"] = {"seconds": 0.5}
    content["models"] = {"echo": MODELS["echo"], "whisper": MODELS["whisper"]}
    result = run_pilot(read_pilot(content, "test"), tmp_path / "out")
    for model in result["models"]:
        seconds, steps = model["train_seconds"]["mean"], model["steps"]["mean"]
        assert seconds >= 0.5
        assert steps >= 1
        run = tmp_path / "out" / model["model"] / "seed-1"
        events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        last = [e for e in events if e["kind"] == "eval"][-1]
        assert (last["step"], last["seconds"]) == (steps, seconds)


def test_one_model_alone_is_compared_with_none(content, tmp_path):
    content["models"] = {"whisper": MODELS["whisper"]}
    result = run_pilot(read_pilot(content, "test"), tmp_path / "out")
    assert result["differences"] == {"joint": {}, "decoder": {}, "ctc": {}}
    assert "Against" not in (tmp_path / "out" / "table.md").read_text()
