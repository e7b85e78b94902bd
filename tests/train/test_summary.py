"""What a run says at its beginning, in its bar and at its end, and going on for longer."""

import logging
import re

import pytest
import torch

from echo.checkpoints.run import CheckpointFolder
from echo.config import load_run_config
from echo.support.errors import ConfigError
from echo.train import loop, measuring
from echo.train.recorder import read_metrics
from echo.train.run import resume_run, start_run
from echo.train.schedule import rate_factor
from echo.train.summary import ending, evaluated
from tests.train.test_loop import StopError, assert_same_run, losses, stop_after, tiny, weights


def evaluations(run):
    return [(e["step"], e["wer"]) for e in read_metrics(run) if e["kind"] == "eval"]


def rates(monkeypatch, *found):
    """Lets evaluations find these WERs."""
    left = iter(found)
    monkeypatch.setattr(measuring.Measuring, "wer", lambda *_: next(left))


@pytest.mark.slow
def test_a_run_says_what_it_begins_with_and_what_came_of_it(
    shared, tmp_path, monkeypatch, caplog, capsys
):
    rates(monkeypatch, 0.5, 0.25, 0.375)
    attention = {"encoder": ["plain", "adaptive"], "decoder": "plain"}
    config = tiny(shared, model={"attention": attention}, train={"eval_every": 3})
    with caplog.at_level(logging.INFO):
        progress = start_run(config, tmp_path / "run")
    said = [r.getMessage() for r in caplog.records if r.name == "echo.train.loop"]
    assert re.fullmatch(
        r"data: \d+ utterances, 0\.\d\d hours, \d+ steps an epoch; 7 steps, \d\.\d epochs", said[0]
    )
    count = sum(w.numel() for n, w in weights(tmp_path / "run").items() if n != "proj_out.weight")
    fixed = 500 * 32  # the encoder's positions
    assert said[1] == (
        f"model: {count / 1e6:.2f} M parameters, {(count - fixed) / 1e6:.2f} M of them trained; "
        "attention: plain 1, adaptive 1 in the encoder, plain 1 in the decoder"
    )
    assert re.fullmatch(r"device: .*, (fp32|bf16), 1 process", said[2])
    bar = capsys.readouterr().err.split("\r")[-1]
    assert "WER=37.5%" in bar  # the last one
    lines = ending(tmp_path / "run", progress).splitlines()
    assert lines[0].startswith("Trained 7 steps in ")
    assert lines[1] == "WER: 37.50 % at step 7; 25.00 % at best, at step 6"
    assert lines[2] == f"The best model is in {tmp_path}/run/checkpoints/step-000006/"
    assert lines[3] == f"Next: echo-asr evaluate {tmp_path}/run DATA --checkpoint best"


def test_the_lines_of_evaluations_stand_below_each_other(shared):
    config = tiny(shared, train={"max_steps": 2000})
    events = [
        {"step": 0, "wer": 1.25, "seconds": 0.0},
        {"step": 250, "wer": 0.5, "seconds": 35.25},
        {"step": 2000, "wer": 0.0625, "seconds": 1000.0},
        {"step": 2001, "wer": 0.25, "wer_clean": 0.1, "wer_other": 0.4, "seconds": 1000.0},
    ]
    losses = [None, 12.5, 0.125, 0.125]
    lines = [evaluated(events[: i + 1], config, losses[i], 1.5e-3) for i in range(4)]
    assert lines[0] == (
        "step    0  loss      -  WER 125.00 %  best 125.00 % at    0       0 s  lr 1.50e-03"
    )
    assert lines[1] == (
        "step  250  loss 12.500  WER  50.00 %  best  50.00 % at  250      35 s  lr 1.50e-03"
    )
    assert len({len(line) for line in lines[:3]}) == 1
    assert "WER clean  10.00 %  other  40.00 %  best   6.25 % at 2000" in lines[3]


@pytest.mark.slow
def test_the_wer_before_training_is_measured_and_changes_nothing(shared, tmp_path, monkeypatch):
    """Of a checkpoint alone, once, by the silence that it was trained with."""
    start_run(tiny(shared, train={"max_steps": 1}), tmp_path / "start")
    assert [step for step, _ in evaluations(tmp_path / "start")] == [1]
    init = {"init": str(tmp_path / "start"), "loss": {"ctc_weight": 0.3}}
    config = tiny(shared, **init, data={"added_silence": 0.5}, train={"patience": 1})
    heard = []
    transcribe = measuring.transcribe_set

    def drawing(*arguments, limits, **options):
        heard.append(limits)
        torch.rand(3)
        return transcribe(*arguments, limits=limits, **options)

    monkeypatch.setattr(measuring, "transcribe_set", drawing)
    start_run(config, tmp_path / "run")
    assert [step for step, _ in evaluations(tmp_path / "run")] == [0, 7]
    assert heard[0].added_silence == 0
    assert heard[1] is None  # the model's own
    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "measure_first", lambda *_: None)
        start_run(config, tmp_path / "without")
    assert_same_run(tmp_path / "run", tmp_path / "without")
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(StopError):
            start_run(config, tmp_path / "broken")
    assert resume_run(tmp_path / "broken").best_wer == evaluations(tmp_path / "run")[1][1]
    assert evaluations(tmp_path / "broken") == evaluations(tmp_path / "run")
    assert losses(tmp_path / "broken") == losses(tmp_path / "run")


@pytest.mark.slow
def test_a_finished_run_goes_on_for_longer(shared, tmp_path):
    start_run(tiny(shared, train={"max_steps": 3}), tmp_path)
    before = weights(tmp_path)
    progress = resume_run(tmp_path, overrides=["train.max_steps=4", "data.workers=0"])
    assert progress.step == 4
    after = weights(tmp_path)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    settings = load_run_config(tmp_path).train
    assert settings.max_steps == 4
    assert resume_run(tmp_path, overrides=["train.max_steps=6"]).step == 6
    logged = {e["step"]: e["learning_rate"] for e in read_metrics(tmp_path) if "loss" in e}
    longer = load_run_config(tmp_path).train
    assert logged[5] == pytest.approx(longer.learning_rate * rate_factor(longer, 5, 0.0))
    assert CheckpointFolder(tmp_path).path("last").name == "step-000006"


@pytest.mark.slow
@pytest.mark.parametrize(
    "override", ["model.d_model=64", "train.learning_rate=1", "seed=3", "init=x", "lora.rank=2"]
)
def test_what_a_run_is_cannot_change(shared, tmp_path, override):
    start_run(tiny(shared, train={"max_steps": 1}), tmp_path)
    key = override.partition("=")[0].replace("lora.rank", "lora")
    with pytest.raises(ConfigError, match=f"{key} cannot change when a run is resumed; start "):
        resume_run(tmp_path, overrides=[override])
