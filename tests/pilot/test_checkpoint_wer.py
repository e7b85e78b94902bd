"""The WER on an exported model's card is that of its own checkpoint."""

import json

import pytest

from echo.checkpoints.run import PROGRESS_FILE, Progress
from echo.config import RunConfig
from echo.pilot.checkpoint_wer import measured_wer
from echo.support.settings import build, to_dict
from echo.support.yaml import save_yaml


def line(number, errors, words):
    counts = {"substitutions": errors, "deletions": 0, "insertions": 0, "reference": words}
    return json.dumps({"id": str(number), "speaker": None, "wer": counts})


@pytest.fixture
def checkpoint(tmp_path):
    """Step 20 of a run, which a pilot measured: 3 errors in 20 words, 4 utterances."""
    folder = tmp_path / "checkpoints" / "step-000020"
    (tmp_path / "evaluation").mkdir()
    folder.mkdir(parents=True)
    config = build(RunConfig, {"data": {"train": "a", "eval": "b"}}, "test")
    save_yaml(to_dict(config), tmp_path / "config.yaml")
    progress = Progress(step=20, wer=0.25, wer_step=20)
    content = {**vars(progress), "position": vars(progress.position)}
    (folder / PROGRESS_FILE).write_text(json.dumps(content))
    (tmp_path / "measured.json").write_text('{"steps": 20}')
    lines = [line(0, 3, 5), line(1, 0, 5), line(2, 0, 5), line(3, 0, 5)]
    (tmp_path / "evaluation" / "utterances.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_what_a_pilot_measured_has_an_interval(checkpoint):
    [wer] = measured_wer(checkpoint)
    assert (wer.name, wer.rate, wer.utterances) == ("WER", 3 / 20, "4")
    assert type(wer.rate) is float  # as a card's front matter takes it
    # Of 4 draws none hits the one bad utterance in 32 % of all resamples, and 2 or more in 26 %.
    low, high = wer.interval
    assert low == 0
    assert 0.3 <= high <= 0.45


def test_of_another_step_only_what_training_measured_is_told(checkpoint):
    (checkpoint.parents[1] / "measured.json").write_text('{"steps": 40}')
    [wer] = measured_wer(checkpoint)
    assert (wer.name, wer.rate, wer.interval) == ("WER in training", 0.25, None)


def test_a_model_of_no_run_has_none(tmp_path):
    assert measured_wer(tmp_path) == []
