"""A resumed run is the run that was begun: on the same data, with the same settings. And from
scratch its tokenizer has learned from all of them."""

import json

import pytest

from echo.checkpoints.load import load_model
from echo.config import load_config
from echo.data.prepare.shard import write_shards
from echo.data.sources import read_source
from echo.support.errors import ConfigError, DataError
from echo.support.yaml import read_yaml, save_yaml
from echo.train.recorder import read_metrics
from echo.train.run import resume_run, start_run
from tests.data.recordings import tone, write
from tests.train.test_loop import tiny

TEXTS = ["one", "two", "five", "six"]


@pytest.fixture
def rows(tmp_path):
    """The rows of a manifest, and what writes them."""
    for index in range(len(TEXTS)):
        write(tmp_path / f"{index}.wav", tone(0.4 + 0.1 * index))

    def saved(rows, name="data.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    found = [
        {"audio_filepath": f"{i}.wav", "text": text, "duration": 0.4 + 0.1 * i}
        for i, text in enumerate(TEXTS)
    ]
    saved(found)
    return found, saved


def settings(shared, manifest, **train):
    data = {"corpus": None, "root": None, "train": manifest, "eval": manifest}
    return tiny(shared, data=data, train={"max_steps": 1, "trackers": [], **train})


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[::-1],
        lambda rows: rows[:-1],
        lambda rows: [*rows, rows[0]],
        lambda rows: [{**rows[0], "text": "four"}, *rows[1:]],
        lambda rows: [{**rows[0], "duration": 0.41}, *rows[1:]],
        lambda rows: [{**rows[0], "speaker": "x"}, *rows[1:]],
    ],
    ids=["order", "fewer", "more", "text", "duration", "speaker"],
)
def test_a_run_does_not_go_on_with_other_data(shared, tmp_path, rows, change):
    found, saved = rows
    run = tmp_path / "run"
    start_run(settings(shared, saved(found)), run)
    saved(change(found))
    with pytest.raises(DataError, match="the training data have other rows, texts or durations"):
        resume_run(run, overrides=["train.max_steps=2"])
    saved(found)
    assert resume_run(run, overrides=["train.max_steps=2"]).step == 2


def test_a_run_of_an_earlier_version_goes_on(shared, tmp_path, rows):
    found, saved = rows
    run = tmp_path / "run"
    start_run(settings(shared, saved(found)), run)
    (run / "provenance.json").unlink()
    assert resume_run(run, overrides=["train.max_steps=2"]).step == 2


def edit(run, section, **changes):
    content = read_yaml(run / "config.yaml")
    content[section] |= changes
    save_yaml(content, run / "config.yaml")


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("train", {"learning_rate": 0.1}),
        ("train", {"weight_decay": 0.5}),
        ("model", {"dropout": 0.7}),
        ("model", {"attention": {"encoder": "focus"}}),
        ("data", {"added_silence": 1.0}),
        ("loss", {"label_smoothing": 0.2}),
    ],
)
def test_an_edit_that_resuming_would_not_apply_is_refused(shared, tmp_path, rows, section, change):
    found, saved = rows
    run = tmp_path / "run"
    start_run(settings(shared, saved(found)), run)
    edit(run, section, **change)
    key = f"{section}.{next(iter(change))}"
    with pytest.raises(ConfigError, match=rf"config\.yaml: {key} is not what the run was trained"):
        resume_run(run, overrides=["train.max_steps=2"])


def test_an_edit_of_what_may_change_is_an_override(shared, tmp_path, rows):
    found, saved = rows
    for name in ("edited", "told"):
        start_run(settings(shared, saved(found), warmup_steps=1), tmp_path / name)
    edit(tmp_path / "edited", "train", max_steps=3)
    resume_run(tmp_path / "edited")
    resume_run(tmp_path / "told", overrides=["train.max_steps=3"])
    rates = [
        [e["learning_rate"] for e in read_metrics(tmp_path / name) if e["kind"] == "train"]
        for name in ("edited", "told")
    ]
    assert rates[0] == rates[1]
    assert load_config(tmp_path / "edited" / "config.yaml").train.max_steps == 3


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tokenizer_learns_from_all_of_every_source(shared, tmp_path, rows, streamed):
    """Also from what the first epoch or block does not come to."""
    found, saved = rows
    if streamed:
        write_shards(read_source(saved(found)), tmp_path / "shards", "flac", max_utterances=1)
        source = str(tmp_path / "shards")
    else:
        source = saved(found)
    data = {
        **{"corpus": None, "root": None, "eval": saved(found)},
        **{"train": [{"source": source, "weight": 0.25}], "shards_per_block": 1},
    }
    start_run(tiny(shared, data=data, train={"max_steps": 5, "trackers": []}), tmp_path / "run")
    vocabulary = load_model(tmp_path / "run", "last").tokenizer.get_vocab()
    assert {*"".join(TEXTS)} <= {*vocabulary}
