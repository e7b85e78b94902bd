"""The source that docs/add_a_source.md adds, as it stands on the page."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from echo.data.sources import read, read_source, scan_source
from echo.support.errors import DataError
from tests.data.recordings import tone, write
from tests.test_cli import run

SECONDS = (0.5, 0.7, 0.9)
TINY = """
model: {d_model: 16, heads: 2, encoder_layers: 1, decoder_layers: 1, max_seconds: 2, max_tokens: 16}
data: {workers: 0, max_batch_size: 2}
train: {max_steps: 2, warmup_steps: 1, log_every: 1, eval_every: 2, eval_utterances: 1}
"""


@pytest.fixture(autouse=True)
def registered(monkeypatch, request):
    """Runs the page's code, and takes its source out of the registry afterwards."""
    monkeypatch.setattr(read, "READERS", [*read.READERS])
    page = (request.config.rootpath / "docs" / "add_a_source.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "kaldi_source.py", "exec"), {"__name__": "kaldi_source"})


@pytest.fixture
def folder(tmp_path) -> Path:
    names = [f"u{i}" for i in range(len(SECONDS))]
    for name, seconds in zip(names, SECONDS, strict=True):
        samples = tone(seconds)
        rising = np.linspace(0, 1, len(samples))[:, None]  # or it is no voice
        write(tmp_path / "kaldi" / f"{name}.wav", samples * rising)
    (tmp_path / "kaldi/wav.scp").write_text("".join(f"{name} {name}.wav\n" for name in names))
    (tmp_path / "kaldi/text").write_text("".join(f"{name} one two\n" for name in names))
    return tmp_path / "kaldi"


def test_its_utterances_are_read(folder):
    (folder / "metadata.csv").write_text("path,text\n")  # which a built-in reader would take
    found = read_source(str(folder))
    assert [u.id for u in found] == ["u0", "u1", "u2"]
    assert {u.text for u in found} == {"one two"}
    assert [u.duration for u in found] == pytest.approx(SECONDS)
    assert [len(u.audio.load()) for u in found] == [round(s * 16_000) for s in SECONDS]


def test_it_is_checked_and_trained_on(folder, tmp_path, monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "data", "check", folder)
    assert (code, "3 rows" in out, "problems: none" in out) == (0, True, True)
    (tmp_path / "run.yaml").write_text(TINY)
    sets = (f"data.train={folder}", f"data.eval={folder}")
    place = tmp_path / "run"
    code, _, err = run(monkeypatch, capsys, "train", tmp_path / "run.yaml", *sets, "--out", place)
    assert not code, err
    metrics = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics if line["kind"] == "train"] == [1, 2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("u1 gone.wav", ":2: no recording 'gone.wav' in "),
        ("u1 ../outside.wav", ":2: the recording '.*' is outside of "),
        ("u1 noise.wav", ":2: .*noise.wav: cannot be read as audio"),
        ("u1", ":2: 'audio' must be a path, not ''"),
        ("u9 u1.wav", ":2: .*text has no line for 'u9'"),
    ],
)
def test_a_bad_row_is_one_sentence_with_its_file_and_line(folder, line, message):
    write(folder.parent / "outside.wav")
    (folder / "noise.wav").write_bytes(b"noise")
    table = folder / "wav.scp"
    table.write_text(table.read_text().replace("u1 u1.wav", line))
    first, bad, last = scan_source(str(folder))
    assert (first.id, last.id) == ("u0", "u2")
    with pytest.raises(DataError, match=re.escape(str(table)) + message):
        raise bad
    assert "\n" not in str(bad)
    assert str(folder) in str(bad)


def test_a_missing_file_of_it_is_named(folder):
    (folder / "text").unlink()
    with pytest.raises(DataError, match="kaldi/text: cannot be read"):
        read_source(str(folder))
