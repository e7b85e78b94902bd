"""Files in, subtitles out, with a real Whisper on real recordings."""

import json
import re

import pytest
import soundfile
import torch

from tests.test_cli import run


def transcribe(monkeypatch, capsys, shared, out, *arguments):
    model = shared / "models" / "whisper-tiny.en"
    code, _, err = run(
        monkeypatch, capsys, "transcribe", *arguments, "--model", model, "--out", out
    )
    return code, err


def recordings(shared):
    folder = shared / "data" / "librispeech" / "dev"
    return sorted(folder.glob("8226-274369-000[01].opus"))


def test_a_batch_is_written_as_each_would_be_alone(monkeypatch, capsys, shared, tmp_path):
    paths = recordings(shared)
    formats = ("--format", "txt,srt,json")
    code, _ = transcribe(monkeypatch, capsys, shared, tmp_path / "both", *paths, *formats)
    assert code == 0
    for path in paths:
        code, _ = transcribe(monkeypatch, capsys, shared, tmp_path / "one", path, *formats)
        assert code == 0
        for kind in ("txt", "srt", "json"):
            together, alone = (tmp_path / d / f"{path.stem}.{kind}" for d in ("both", "one"))
            assert together.read_text() == alone.read_text()
    text = (tmp_path / "both" / f"{paths[0].stem}.txt").read_text()
    assert re.sub(r"[^a-z ]", "", text.lower()).strip() == "every measure pursued by the commons"
    assert json.loads((tmp_path / "both" / f"{paths[1].stem}.json").read_text())
    times = re.findall(r"(\S+) --> (\S+)", (tmp_path / "both" / f"{paths[1].stem}.srt").read_text())
    assert times == sorted(times)
    assert all(start < end for start, end in times)


@pytest.mark.parametrize("kind", ["silence", "noise", "tones"])
def test_where_nobody_speaks_nothing_is_written(monkeypatch, capsys, shared, tmp_path, kind):
    time = torch.arange(5 * 16_000) / 16_000
    samples = {
        "silence": torch.zeros(5 * 16_000),
        "noise": 0.1 * torch.randn(5 * 16_000),
        "tones": 0.1 * sum(torch.sin(2 * torch.pi * f * time) for f in (220.0, 277.2, 329.6)),
    }[kind]
    path = tmp_path / f"{kind}.wav"
    soundfile.write(path, samples.numpy(), 16_000)
    code, _ = transcribe(monkeypatch, capsys, shared, tmp_path / "out", path)
    assert code == 0
    assert (tmp_path / "out" / f"{kind}.txt").read_text().strip() == ""


def test_a_bad_file_is_named_and_what_was_done_stays(monkeypatch, capsys, shared, tmp_path):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no audio")
    good = recordings(shared)[0]
    code, err = transcribe(
        monkeypatch, capsys, shared, tmp_path / "out", good, bad, "--batch-size", "1"
    )
    assert code == 2
    assert "bad.wav" in err
    assert "Traceback" not in err
