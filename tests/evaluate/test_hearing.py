"""What a model hears at the edges of a text, and whether it was trained on the data."""

import json
from pathlib import Path

import pytest

from echo.checkpoints.load import load_model
from echo.config import RunConfig
from echo.data.fingerprint import describe
from echo.data.prepare.filter.measures import measure_rows
from echo.data.sources import read_source
from echo.evaluate.alignment import align
from echo.evaluate.decoding import transcribe_set
from echo.evaluate.evaluation import GREEDY
from echo.evaluate.hearing import Hearing, edge_errors, trained_on
from echo.support.settings import to_dict
from echo.support.yaml import save_yaml
from tests.data.recordings import tone, write, write_manifest
from tests.small_whisper import save_whisper, small_whisper


@pytest.mark.parametrize(
    ("text", "heard", "start", "end"),
    [
        ("a b c d e f", "a b c d e f", 0, 0),
        ("c d e f", "aa bb c d e f", 6 / 5, 0),  # the text lacks the beginning
        ("a b c d", "a b c d ee ff", 0, 6 / 5),
        ("a b c d e f", "c d e f", 4 / 5, 0),  # the recording lacks it
        ("a b c d e f g", "a b c x e f g", 0, 0),  # only the edges count
        ("a b", "", 1, 1),
    ],
)
def test_errors_at_the_edges(text: str, heard: str, start: float, end: float) -> None:
    assert edge_errors(align([text], [heard])[0], 3) == pytest.approx((start, end))


def test_a_run_names_what_it_was_trained_on(tmp_path: Path) -> None:
    """By the name of its data, by their content, by what a filter kept of them, and by the run that
    it began with."""
    write(tmp_path / "a.wav")
    data, copy, other = (
        write_manifest(tmp_path / name, {"audio_filepath": "a.wav", "text": text})
        for name, text in (("data.jsonl", "a"), ("copy.jsonl", "a"), ("other.jsonl", "b"))
    )
    rows, others = read_source(data), read_source(other)
    kept = tmp_path / "filtered/kept.jsonl"
    kept.parent.mkdir()
    (kept.parent / "filter.json").write_text(json.dumps({"data": data}))
    for run, train, init in (("run", data, None), ("later", other, "run"), ("on_kept", kept, None)):
        folder = tmp_path / run
        folder.mkdir()
        config = to_dict(RunConfig())
        config["data"] |= {"train": str(train), "eval": other}
        config["init"] = init and str(tmp_path / init)
        save_yaml(config, folder / "config.yaml")
    about = {"data": {"training": describe(rows)}}
    (tmp_path / "run/provenance.json").write_text(json.dumps(about))
    run = str(tmp_path / "run")
    assert trained_on(run, data, rows) == run
    assert trained_on(run, copy, read_source(copy)) == run
    assert trained_on(run, other, others) is None
    assert trained_on(f"{run}/checkpoints/step-000001", data, rows) == run
    assert trained_on(str(tmp_path / "later"), data, rows) == run
    assert trained_on(str(tmp_path / "on_kept"), data, rows) == str(tmp_path / "on_kept")
    assert trained_on("org/model", data, rows) is None


def test_rows_are_heard_once(tmp_path: Path) -> None:
    """What a model hears is kept by row and model; a recording that is too long is left out."""
    whisper = tmp_path / "whisper"
    save_whisper(small_whisper(), whisper)
    write(tmp_path / "a.wav")
    write(tmp_path / "long.wav", tone(31))
    rows = [{"audio_filepath": name, "text": "ab"} for name in ("a.wav", "long.wav", "a.wav")]
    spec = write_manifest(tmp_path / "rows.jsonl", *rows)
    measured = dict(enumerate(measure_rows(read_source(spec), None, 0)))
    hearing = Hearing.of(str(whisper), "best", spec, tmp_path / "heard.jsonl", progress=False)
    first = hearing(measured, [0, 1])
    assert list(first) == [0]
    kept = (tmp_path / "heard.jsonl").read_text()
    assert hearing(measured, [0]) == first
    assert (tmp_path / "heard.jsonl").read_text() == kept
    loaded = load_model(str(whisper))
    assert first[0].text == transcribe_set(loaded, [measured[0].utterance], GREEDY).texts[0]
