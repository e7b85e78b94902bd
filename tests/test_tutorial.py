"""The tutorial: its commands, run as they are written, lead from recordings to a model."""

import json
import re
import runpy
import shlex
import sys

import pytest

from echo.data.sources import ReadOptions, read_source
from tests.test_cli import run as cli
from tests.test_docs import ROOT

PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^echo-asr ((?:.*\\\n)*.*)$", PAGE, re.MULTILINE)
WHISPER = "openai/whisper-tiny.en"
FEW_STEPS = ["train.max_steps=2", "train.eval_every=2", "data.workers=0", "train.trackers=[]"]


@pytest.fixture
def folder(shared, tmp_path, monkeypatch):
    """What the tutorial begins with: folders of recordings and of their texts, here of half a
    minute of each of four speakers."""
    rows = shared / "data" / "librispeech" / "train.jsonl"
    made = tmp_path / "made"
    arguments = [rows, "--out", made, "--recordings", 4, "--minutes", 0.4]
    with monkeypatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts" / "measure")
        patch.setattr(sys, "argv", ["long.py", *map(str, arguments)])
        runpy.run_path(str(ROOT / "scripts" / "measure" / "long.py"), run_name="__main__")
    monkeypatch.chdir(made)
    return made


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def correct(folder):
    """Writes what *Correct* and *Save* in the page download."""
    (row, *_) = rows_of(folder / "filtered" / "kept.jsonl")
    named = {key: row[key] for key in ("id", "audio_filepath", "offset")}
    texts = {"before": row["text"], "after": "As it was said."}
    (folder / "corrections.jsonl").write_text(json.dumps({**named, **texts}) + "\n")


@pytest.mark.slow
def test_the_commands_lead_from_recordings_to_a_model(folder, shared, monkeypatch, capsys):
    pytest.importorskip("ctranslate2")
    assert len(COMMANDS) == 10
    for command in COMMANDS:
        local = command.replace("\\\n", " ").replace(
            WHISPER, str(shared / "models/whisper-tiny.en")
        )
        words = shlex.split(local)
        if words[:2] == ["data", "apply"]:
            correct(folder)
        code, _, err = cli(monkeypatch, capsys, *words, *FEW_STEPS * (words[0] == "train"))
        assert code == 0, (command, err)

    names = {path.name for path in (folder / "recordings").iterdir()}
    aligned = rows_of(folder / "aligned" / "kept.jsonl")
    assert {row["audio_filepath"] for row in aligned} == {f"../recordings/{n}" for n in names}
    said = " ".join(row["text"] for row in aligned)
    texts = " ".join(path.read_text() for path in sorted((folder / "texts").iterdir()))
    assert len(said.split()) > 0.8 * len(re.sub(r"^- \w+: ", "", texts, flags=re.M).split())

    kept, rejected = (rows_of(folder / "filtered" / f"{n}.jsonl") for n in ("kept", "rejected"))
    assert sorted(row["offset"] for row in kept + rejected) == sorted(r["offset"] for r in aligned)
    assert kept[0]["id"] in (folder / "filtered.html").read_text(encoding="utf-8")
    corrected = rows_of(folder / "corrected.jsonl")
    changed = {row["text"]: row["text_before"] for row in corrected if "text_before" in row}
    assert changed == {"As it was said.": kept[0]["text"]}

    outside = ReadOptions(allow_outside=True)
    sides = {n: read_source(f"split/{n}.jsonl", outside) for n in ("train", "dev", "test")}
    everywhere = [row.id for side in sides.values() for row in side]
    assert sorted(everywhere) == sorted(row["id"] for row in corrected)
    for value in (lambda u: u.speaker, lambda u: u.extra["recording"], lambda u: u.text):
        found = [{value(row) for row in side} for side in sides.values()]
        assert None not in set.union(*found)
        assert len(set.union(*found)) == sum(map(len, found))

    comparison = json.loads((folder / "compared" / "comparison.json").read_text())
    assert [model["name"] for model in comparison["models"]] == ["whisper-tiny.en", "mine"]
    assert comparison["utterances"] == len(sides["test"])
    for name in names:
        for suffix in ("txt", "srt"):
            assert (folder / "transcripts" / name).with_suffix(f".{suffix}").stat().st_size
    assert (folder / "deployed" / "model.bin").exists()
