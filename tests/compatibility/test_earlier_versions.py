"""What earlier versions wrote still loads, evaluates and resumes."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSpeechSeq2Seq
from typer.testing import CliRunner

import echo  # noqa: F401, which makes the model known
from echo.cli import app
from tests.compatibility.make import features

ARCHIVES = sorted(Path(__file__).parent.glob("*.zip"))


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.stem)
def written(request, tmp_path, monkeypatch) -> Path:
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_checkpoint_gives_the_same_logits(written):
    folder = written / "run" / "checkpoints" / "step-000002"
    model = AutoModelForSpeechSeq2Seq.from_pretrained(folder).eval()
    with torch.no_grad():
        found = model(features(), decoder_input_ids=torch.tensor([[1, 2, 3]])).logits.flatten()
    expected = json.loads((written / "expected.json").read_text())["logits"]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_a_run_resumes_with_the_same_losses(written):
    result = CliRunner().invoke(app, ["resume", "run"], catch_exceptions=False)
    assert result.exit_code == 0
    assert losses(written / "run" / "metrics.jsonl") == pytest.approx(
        losses(written / "metrics.jsonl"), rel=1e-5
    )


def test_its_settings_start_a_new_run(written):
    arguments = ["train", "settings.yaml", "train.max_steps=1", "--out", "new"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    arguments = ["train", "run/config.yaml", "train.max_steps=1", "--out", "newer"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert losses(written / "new" / "metrics.jsonl") == losses(written / "newer" / "metrics.jsonl")


def losses(path: Path) -> list[float]:
    events = [json.loads(line) for line in path.read_text().splitlines()]
    return [event["loss"] for event in events if event["kind"] == "train"]
