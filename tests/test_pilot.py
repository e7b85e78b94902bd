"""The pilot on real recordings, end to end with tiny models."""

import json

import pytest

from echo.errors import ConfigError
from echo.pilot import format_table, read_pilot, run_pilot
from tests.train.test_loop import TINY

MODELS = {
    "echo": {"model": {"attention": {"encoder": "adaptive"}}},
    "whisper": {"model": {"attention": {"encoder": "plain"}}},
}


def contenders(shared, steps=4):
    content = {
        **TINY,
        "data": {**TINY["data"], "root": str(shared / "data" / "fsdd")},
        "train": {**TINY["train"], "max_steps": steps, "checkpoint_every": 2},
        "decode": {"max_batch_seconds": 600},
        "models": MODELS,
    }
    return read_pilot(content, "test")


@pytest.mark.slow
def test_both_models_are_trained_measured_and_shown(shared, tmp_path):
    rows = run_pilot(contenders(shared), tmp_path)
    assert [row["model"] for row in rows] == ["echo", "whisper"]
    for row in rows:
        assert row["steps"] == 4
        assert row["utterances"] >= 500
        assert row["wer"]["reference"] > 1000
        assert row["train_seconds"] > 0
    for name in ("loss_steps", "loss_time", "wer_steps", "wer_time"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000
    assert json.loads((tmp_path / "pilot.json").read_text())["models"] == rows
    assert (tmp_path / "table.md").read_text() == format_table(rows)
    transcripts = (tmp_path / "echo" / "evaluation" / "utterances.jsonl").read_text()
    assert len(transcripts.splitlines()) == rows[0]["utterances"]

    # Started again it has nothing left to train; with other settings it will not mix them in.
    again = run_pilot(contenders(shared), tmp_path)
    assert [row["wer"] for row in again] == [row["wer"] for row in rows]
    with pytest.raises(ConfigError, match="echo: holds a run with other settings"):
        run_pilot(contenders(shared, steps=5), tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "test: 'models' must map each model's name to its own settings"),
        ({"models": {"echo": 3}}, r"test: models.echo is 3, not a mapping"),
        ({"models": {"echo": {"modl": {}}}}, r"test .models.echo.: unknown key 'modl'"),
    ],
)
def test_wrong_settings_are_named(content, message):
    with pytest.raises(ConfigError, match=message):
        read_pilot(content, "test")


def test_the_table_is_markdown():
    counts = {"rate": 0.0123}
    row = {
        "model": "echo",
        "parameters": 1_860_000,
        "steps": 10,
        "train_seconds": 61.2,
        "utterances_per_second": 50.04,
        "final_loss": 0.5,
        "wer": counts,
        "cer": counts,
        "rtfx": 120.4,
    }
    lines = format_table([row]).splitlines()
    assert lines[1].replace("-", "").replace(":", "").replace("|", "").strip() == ""
    cells = [c.strip() for c in lines[2].strip("|").split("|")]
    assert cells == ["echo", "1.86 M", "10", "61", "50.0", "0.500", "1.23 %", "1.23 %", "120"]
