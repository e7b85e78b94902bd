"""A run that is measured on several sets, and chooses its checkpoints by them."""

import json
import math
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from echo.checkpoints.run import CheckpointFolder
from echo.data.build import build_corpus
from echo.data.named import check_data
from echo.support.errors import ConfigError, DataError
from echo.train import measuring
from echo.train.recorder import read_metrics
from echo.train.run import resume_run, start_run
from echo.train.summary import ending
from tests.train.test_loop import StopError, assert_same_run, stop_after, tiny


@pytest.fixture(scope="module")
def sets(shared, tmp_path_factory):
    """Settings of data with two evaluation sets, of 3 and of 1 utterances."""
    folder = tmp_path_factory.mktemp("data")
    source = shared / "data" / "speechocean762"
    lines = (source / "train.jsonl").read_text().splitlines()
    for name, part in {"train": lines[:8], "own": lines[8:11], "general": lines[11:12]}.items():
        rows = [json.loads(line) for line in part]
        for row in rows:
            row["audio_filepath"] = str(source / row["audio_filepath"])
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text)
    return {
        "corpus": None,
        "root": None,
        "train": str(folder / "train.jsonl"),
        "eval": {name: str(folder / f"{name}.jsonl") for name in ("own", "general")},
        "allow_outside": True,
    }


def test_a_list_makes_one_set(shared, sets):
    """Of which a recording may be in several."""
    files = [*sets["eval"].values(), sets["eval"]["own"]]
    corpus = build_corpus(tiny(shared, data={**sets, "eval": files}).data, seed=1)
    texts = [
        json.loads(line)["text"] for file in files for line in Path(file).read_text().splitlines()
    ]
    assert [utterance.text for utterance in corpus.eval_utterances()] == texts
    assert len({utterance.id for utterance in corpus.eval_utterances()}) == len(texts)
    with pytest.raises(DataError, match=r"no\.jsonl: no such file"):
        check_data(tiny(shared, data={**sets, "eval": [files[0], "no.jsonl"]}).data)


def evaluations(run):
    return [event for event in read_metrics(run) if event["kind"] == "eval"]


@pytest.mark.slow
def test_every_set_is_measured_and_the_mean_decides(shared, sets, tmp_path, monkeypatch, capsys):
    """Before training and at each evaluation; keep_best, the card, the bar and the summary follow.
    A run that was stopped goes on as the unbroken one."""
    heard, rates = [], []
    transcribe, count = measuring.transcribe_set, measuring.Measuring.wer

    def transcribed(loaded, utterances, *rest, **options):
        heard.append(len(utterances))
        return transcribe(loaded, utterances, *rest, **options)

    wanted = [0.9, 0.9, 0.5, 0.1, 0.2, 0.8, 0.4, 0.2]  # own, general of steps 0, 3, 6, 7

    def counted(*texts):
        rates.append(count(*texts))
        return wanted[(len(rates) - 1) % len(wanted)]

    start_run(tiny(shared, data=sets, train={"max_steps": 1}), tmp_path / "start")
    monkeypatch.setattr(measuring, "transcribe_set", transcribed)
    monkeypatch.setattr(measuring.Measuring, "wer", counted)
    config = tiny(
        shared,
        init=str(tmp_path / "start"),
        loss={"ctc_weight": 0.3},
        data=sets,
        train={"best": "own + 2 general", "eval_every": 3, "keep_best": 1},
    )
    run = tmp_path / "run"
    capsys.readouterr()
    progress = start_run(config, run)
    assert heard == [2, 1] * 4  # eval_utterances limits each
    found = [(e["step"], e["wer_own"], e["wer_general"]) for e in evaluations(run)]
    assert found == [(0, 0.9, 0.9), (3, 0.5, 0.1), (6, 0.2, 0.8), (7, 0.4, 0.2)]
    for event in evaluations(run):
        mean = (event["wer_own"] + 2 * event["wer_general"]) / 3
        assert math.isclose(event["wer"], mean)
    folder = CheckpointFolder(run)
    assert folder.path("best").name == "step-000003"
    assert math.isclose(progress.best_wer, 0.7 / 3)
    scalars = EventAccumulator(str(run / "tensorboard")).Reload()
    assert [s.step for s in scalars.Scalars("eval/wer_general")] == [0, 3, 6, 7]
    assert "WER general=20.0%" in capsys.readouterr().err
    lines = ending(run, progress).splitlines()
    assert lines[1:3] == [
        "WER of own: 40.00 % at step 7; 50.00 % at best, at step 3; 90.00 % before training",
        "WER of general: 20.00 % at step 7; 10.00 % at best, at step 3; 90.00 % before training",
    ]
    card = ModelCard.load(folder.path("best") / "README.md")
    results = {r.dataset_name: r.metric_value for r in card.data.eval_results}
    assert results == {"own.jsonl": 50, "general.jsonl": 10}
    assert "| step | WER of own | WER of general |" in " ".join(card.content.split()).replace(
        "  ", " "
    )
    rates.clear()
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(StopError):
            start_run(config, tmp_path / "broken")
    resume_run(tmp_path / "broken")
    assert_same_run(tmp_path / "broken", run)


def test_a_wrong_choice_is_told_of_before_anything_is_loaded(shared, sets, tmp_path):
    config = tiny(shared, init=str(tmp_path / "none"), data=sets, train={"best": "owm"})
    with pytest.raises(ConfigError, match=r"train\.best names the data set 'owm', but"):
        start_run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
