"""The tutorial: its commands run as they are written, one after the other."""

import json
import re
import shlex
import subprocess
import sys

import pytest

from echo.data.sources import ReadOptions, read_source
from tests.test_cli import run as cli
from tests.test_docs import ROOT

PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^echo-asr (.*(?:\\\n.*)*)$", PAGE, re.MULTILINE)
WHISPER = "openai/whisper-tiny.en"
SMALL = {  # what is added to a command, so that the test takes a minute
    "train": ["train.max_steps=2", "train.eval_every=2", "data.workers=0", "train.trackers=[]"]
}


def records(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def values(rows, column):
    return {row[column] for row in rows}


def read(path):
    return read_source(str(path), ReadOptions(allow_outside=True))


@pytest.fixture
def folder(shared, tmp_path, monkeypatch):
    """What the tutorial begins with: two folders, and here of a minute from each of four speakers."""
    script = [sys.executable, str(ROOT / "scripts" / "measure" / "long.py")]
    rows = str(shared / "data" / "librispeech" / "train.jsonl")
    made = ["--out", str(tmp_path / "mine"), "--recordings", "4", "--minutes", "0.6"]
    subprocess.run([*script, rows, *made], check=True)
    monkeypatch.chdir(tmp_path / "mine")
    return tmp_path / "mine"


def correct(folder):
    """What Correct and Save in the page download."""
    row = read(folder / "filtered" / "kept.jsonl")[0]
    offset = row.audio.as_slice().start
    told = {"id": row.id, "audio_filepath": str(row.audio.fetch()), "offset": offset}
    correction = {**told, "before": row.text, "after": "Hello, elephant."}
    (folder / "corrections.jsonl").write_text(json.dumps(correction) + "\n", encoding="utf-8")


@pytest.mark.slow
def test_the_commands_lead_from_recordings_to_a_model(folder, shared, monkeypatch, capsys):
    assert len(COMMANDS) <= 10
    for command in COMMANDS:
        text = command.replace("\\\n", " ").replace(WHISPER, str(shared / "models/whisper-tiny.en"))
        words = shlex.split(text)
        print(command)
        if words[:2] == ["data", "apply"]:
            correct(folder)
        code, out, err = cli(monkeypatch, capsys, *words, *SMALL.get(words[0], []))
        sys.__stdout__.write(f"### {command}\n{out}\n{err}\n")
        assert code == 0, (command, err)
