"""Training in turn against training alone."""

import logging
import os
import signal
import sys
from dataclasses import replace

import pytest

from echo.checkpoints.run import CheckpointFolder
from echo.pilot.turns import check_folder, read_corpora, train_in_turn
from echo.support.errors import ConfigError, StoppedError
from echo.train.run import start_run
from tests.train.test_loop import assert_same_run, tiny
from tests.train.test_robust import after_step, poison


def configs(shared):
    """With dropout, a choice of speeds, and lengths that no turn divides."""
    train = {"eval_every": 3}
    return {
        "focus": tiny(shared, model={"attention": {"encoder": "focus"}}, train=train),
        "adaptive": tiny(shared, train={**train, "max_steps": 4}),
        "plain": tiny(shared, model={"attention": {"encoder": "plain"}}, train=train),
    }


@pytest.mark.slow
def test_a_run_trained_in_turn_is_the_run_trained_alone(shared, tmp_path):
    found = configs(shared)
    runs = {tmp_path / name: config for name, config in found.items()}
    train_in_turn(runs, read_corpora(runs), 2, tmp_path)
    for name, config in found.items():
        assert config.model.dropout > 0
        start_run(config, tmp_path / "alone" / name)
        assert_same_run(tmp_path / name, tmp_path / "alone" / name)


@pytest.mark.slow
def test_at_a_signal_every_run_writes_a_checkpoint_and_goes_on_from_it(
    shared, tmp_path, monkeypatch
):
    found = configs(shared)
    runs = {tmp_path / name: config for name, config in found.items()}
    after_step(monkeypatch, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(StoppedError) as stopped:
        train_in_turn(runs, read_corpora(runs), 2, tmp_path)
    assert str(stopped.value).startswith(f"{tmp_path}: stopped by SIGTERM; go on by starting")
    assert stopped.value.number == signal.SIGTERM
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    monkeypatch.undo()
    steps = {run.name: CheckpointFolder(run).load()[1]["progress"]["step"] for run in runs}
    assert steps == {"focus": 6, "adaptive": 4, "plain": 5}
    train_in_turn(runs, read_corpora(runs), 3, tmp_path)
    for name, config in found.items():
        start_run(config, tmp_path / "alone" / name)
        assert_same_run(tmp_path / name, tmp_path / "alone" / name)


@pytest.mark.slow
@pytest.mark.parametrize("in_turn", [True, False])
def test_warnings_stand_above_the_progress_bars(shared, tmp_path, monkeypatch, capsys, in_turn):
    """Each on a line of its own, also after the first bar is closed; then logging is as before."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    poison(monkeypatch, {1, 5}, "nan")
    handler = logging.StreamHandler()
    logging.root.addHandler(handler)
    before = list(logging.root.handlers)
    try:
        if in_turn:
            runs = {tmp_path / name: config for name, config in configs(shared).items()}
            train_in_turn(runs, read_corpora(runs), 2, tmp_path)
        else:
            start_run(tiny(shared), tmp_path / "alone")
        assert logging.root.handlers == before
    finally:
        logging.root.removeHandler(handler)
    shown = capsys.readouterr().err.replace("\x1b[A", "")  # by which tqdm goes up to another bar
    lines = [line.split("\r")[-1] for line in shown.split("\n")]
    warnings = [line[:5] for line in lines if "is skipped" in line]
    assert warnings == ["step "] * (5 if in_turn else 2)


def test_runs_that_read_the_same_data_share_them(shared, tmp_path):
    one, other = tiny(shared), tiny(shared, model={"d_model": 8})
    batches = tiny(shared, data={"max_batch_seconds": 3})
    runs = {"one": one, "other": other, "batches": batches, "seed": replace(one, seed=5)}
    found = read_corpora({tmp_path / name: config for name, config in runs.items()})
    assert [path.name for path in found] == [*runs]
    first, *rest = found.values()
    assert [corpus is first for corpus in rest] == [True, False, False]


@pytest.mark.slow
def test_a_folder_with_other_settings_is_not_gone_on_with(shared, tmp_path):
    config = tiny(shared, train={"max_steps": 1})
    runs = {tmp_path / "a": config}
    train_in_turn(runs, read_corpora(runs), 1, tmp_path)
    check_folder({tmp_path / "a": config, tmp_path / "b": config})
    with pytest.raises(ConfigError, match="a: holds a run with other settings"):
        check_folder({tmp_path / "a": replace(config, seed=5)})
