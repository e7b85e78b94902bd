"""Results are written beside what is there, or not at all, and this is known at once."""

import errno
import os
import sys
from pathlib import Path

import pytest
import soundfile
import torch

from echo.checkpoints.pretrained import read_tensors
from echo.cli import main
from echo.data.sound_file import header_duration
from echo.data.sources.files import read_lines
from echo.support.errors import DataError, EchoError, reason
from echo.support.files import (
    new_folder,
    read_json,
    replace_text,
    result_folder,
    whole_file,
    whole_folder,
)
from echo.support.yaml import read_yaml
from echo.train.recorder import read_metrics


def test_what_is_in_the_folder_stays(tmp_path):
    out = tmp_path / "new" / "out"
    result_folder(out, "results.json")
    (out / "notes.txt").write_text("mine")
    result_folder(out, "results.json")
    assert [path.name for path in out.iterdir()] == ["notes.txt"]
    (out / "results.json").write_text("{}")
    with pytest.raises(EchoError, match=r"out: holds results already \(results\.json\)"):
        result_folder(out, "results.json")


@pytest.mark.parametrize("name", [".", "..", "/"])
def test_a_new_folder_needs_a_name(name):
    with pytest.raises(EchoError, match=r"is no name for a new folder; write to .*out"):
        new_folder(Path(name))


@pytest.mark.parametrize(
    ("command", "result"),
    [
        ("evaluate", "evaluation.json"),
        ("compare", "comparison.json"),
        ("compare", "nowhere/evaluation.json"),
        ("inspect", "inspection.json"),
    ],
)
def test_a_command_asks_before_it_begins(tmp_path, monkeypatch, capsys, command, result):
    recording, data, out = tmp_path / "one.wav", tmp_path / "data.jsonl", tmp_path / "out"
    soundfile.write(recording, torch.zeros(8000).numpy(), 16_000)
    data.write_text('{"audio_filepath": "one.wav", "duration": 0.5, "text": "one"}\n')
    (out / result).parent.mkdir(parents=True)
    (out / result).write_text("precious")

    def error(out):
        arguments = {
            "evaluate": ["nowhere", data],
            "compare": ["nowhere", "nowhere", "--data", data],
            "inspect": ["nowhere", recording],
        }[command]
        arguments = ["echo-asr", command, *arguments, "--out", out]
        monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line

    assert "holds results already" in error(out)
    assert (out / result).read_text() == "precious"
    assert f"{data}: is a file, but must be a folder" in error(data)
    assert "cannot be written (Not a directory)" in error(data / "out")


@pytest.mark.parametrize("command", ["train", "pilot", "resume", "average", "shard"])
def test_an_output_that_cannot_be_written_is_told_before_data_are_read(
    tmp_path, monkeypatch, capsys, command
):
    data, run = tmp_path / "data.jsonl", tmp_path / "run"
    data.write_text("no data\n")
    named = [f"data.train={data}", f"data.eval={data}"]
    (run / ".lock").mkdir(parents=True)
    (run / "config.yaml").write_text(f"data: {{train: {data}, eval: {data}}}\n")
    out = run if command == "resume" else data / "out"
    arguments = {
        "train": ["train", "configs/train.yaml", *named, "--out", out],
        "pilot": ["pilot", *named, "data.corpus=null", "--out", out],
        "resume": ["resume", run],
        "average": ["average", run, "--out", out],
        "shard": ["data", "shard", data, out],
    }[command]
    monkeypatch.setattr(sys, "argv", ["echo-asr", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    why = "Is a directory" if command == "resume" else "Not a directory"
    assert capsys.readouterr().err == f"echo-asr: {out}: cannot be written ({why})\n"


FAILURES = {
    "a full disk": (OSError(errno.ENOSPC, "No space left"), EchoError, "cannot be written"),
    "no memory": (RuntimeError("can't allocate memory"), RuntimeError, "^can't allocate memory$"),
    "bad data": (DataError("a.wav: is empty"), DataError, "^a.wav: is empty$"),
    "Ctrl-C": (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
}


@pytest.mark.parametrize(("error", "raised", "message"), FAILURES.values(), ids=FAILURES.keys())
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_failure_leaves_what_was_there(tmp_path, kind, error, raised, message):
    target = tmp_path / "results"
    if kind == "file":
        target.write_text("before")

    def fail():
        with (whole_file if kind == "file" else whole_folder)(target) as path:
            (path if kind == "file" else path / "part").write_text("half")
            raise error

    with pytest.raises(raised, match=message) as caught:
        fail()
    if raised is EchoError:
        assert str(caught.value).startswith(f"{target}: ")
    assert list(tmp_path.iterdir()) == ([target] if kind == "file" else [])
    assert kind == "folder" or target.read_text() == "before"


@pytest.mark.parametrize("name", ["a", "ü" * 120 + ".txt"])
def test_a_name_may_be_as_long_as_the_system_takes(tmp_path, name):
    replace_text(tmp_path / name, "\ud800 whole\n")
    with whole_folder(tmp_path / f"{name}-folder") as folder:
        (folder / "part").touch()
    assert (tmp_path / name).read_bytes() == b"\\ud800 whole\n"
    assert {path.name for path in tmp_path.iterdir()} == {name, f"{name}-folder"}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOENT, "No such file", "a.txt"), "No such file"),
        (OSError("no network\nTry again."), "no network"),
        (ValueError("  Field 'x':\n   must be int.\n advice"), "Field 'x': must be int"),
        (KeyError(), "KeyError"),
    ],
)
def test_a_reason_is_the_first_sentence(error, expected):
    assert reason(error) == expected


def test_a_pipe_is_refused_and_never_waited_for(tmp_path):
    for name, read in {
        "config.json": read_json,
        "run.yaml": read_yaml,
        "a.wav": header_duration,
        "metrics.jsonl": lambda path: read_metrics(path.parent),
        "rows.jsonl": lambda path: [*read_lines(path)],
        "model.safetensors": read_tensors,
        "pytorch_model.bin": read_tensors,
    }.items():
        os.mkfifo(tmp_path / name)
        with pytest.raises((EchoError, OSError), match="it is a pipe or a device"):
            read(tmp_path / name)
