"""The learning-rate schedule, and runs that end after so many seconds."""

import math

import pytest
import torch
from transformers import get_scheduler

from echo.config import TrainSettings
from echo.support.errors import ConfigError
from echo.train import loop
from echo.train.recorder import read_metrics
from echo.train.run import resume_run, start_run
from echo.train.schedule import build_schedule, rate_factor
from tests.train.test_loop import StopError, stop_after, tiny


def optimiser():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("warmup", [0, 4])
def test_over_steps_it_is_the_one_of_transformers(kind, warmup):
    settings = TrainSettings(max_steps=20, schedule=kind, warmup_steps=warmup)
    ours, theirs = optimiser(), optimiser()
    schedules = (
        build_schedule(ours, settings),
        get_scheduler(kind, theirs, num_warmup_steps=warmup, num_training_steps=20),
    )
    for _ in range(20):
        assert ours.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"], abs=1e-12)
        for each, schedule in zip((ours, theirs), schedules, strict=True):
            each.step()
            schedule.step()
    assert ours.param_groups[0]["lr"] == 0


def test_over_seconds_it_follows_the_share_of_them():
    settings = TrainSettings(max_steps=None, max_seconds=8.0, warmup_steps=10)
    assert rate_factor(settings, step=5, seconds=7.0) == 0.5  # still warming up
    assert rate_factor(settings, step=10, seconds=0.0) == 1
    assert rate_factor(settings, step=999, seconds=2.0) == pytest.approx(
        (1 + math.cos(math.pi / 4)) / 2
    )
    assert rate_factor(settings, step=11, seconds=8.5) == 0


def test_with_both_budgets_it_follows_the_one_that_is_further():
    settings = TrainSettings(max_steps=100, max_seconds=10.0, warmup_steps=0, schedule="linear")
    assert rate_factor(settings, step=80, seconds=2.0) == pytest.approx(0.2)
    assert rate_factor(settings, step=20, seconds=9.0) == pytest.approx(0.1)


def test_a_training_without_an_end_is_an_error():
    with pytest.raises(ConfigError, match=r"max_steps can only be null if train.max_seconds"):
        build_schedule(optimiser(), TrainSettings(max_steps=None))


class Clock:
    """Stands for `time`: a second passes each time somebody looks."""

    def __init__(self):
        self.seconds = 0

    def perf_counter(self):
        self.seconds += 1
        return self.seconds


@pytest.mark.slow
def test_a_run_ends_after_its_seconds_with_an_evaluation(shared, tmp_path, monkeypatch):
    """Also one that was resumed. A step looks three times at the clock: it takes two seconds."""
    config = tiny(shared, train={"max_steps": None, "max_seconds": 9})
    monkeypatch.setattr(loop, "time", Clock())
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(StopError):
            start_run(config, tmp_path)
    assert resume_run(tmp_path).step == 5
    events = read_metrics(tmp_path)
    assert [e["step"] for e in events if e["kind"] == "train"] == [1, 2, 3, 4, 5]
    assert [(e["step"], e["seconds"]) for e in events if e["kind"] == "eval"] == [(5, 10)]
    assert [e["kind"] for e in events[-2:]] == ["checkpoint", "end"]
    rates = [e["learning_rate"] for e in events if e["kind"] == "train"]
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert resume_run(tmp_path).step == 5
