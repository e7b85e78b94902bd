"""Results are written beside what is there, or not at all, and this is known at once."""

import sys

import pytest
import soundfile
import torch

from echo.cli import main
from echo.support.errors import EchoError
from echo.support.files import result_folder


def test_what_is_in_the_folder_stays(tmp_path):
    out = tmp_path / "new" / "out"
    result_folder(out, "results.json")
    (out / "notes.txt").write_text("mine")
    result_folder(out, "results.json")
    assert [path.name for path in out.iterdir()] == ["notes.txt"]
    (out / "results.json").write_text("{}")
    with pytest.raises(EchoError, match=r"out: holds results already \(results\.json\)"):
        result_folder(out, "results.json")


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
    assert f"{data}: cannot be written (File exists)" in error(data)
    assert "cannot be written (Not a directory)" in error(data / "out")
