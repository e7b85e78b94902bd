"""Several means of two models, measured, of which the best is written."""

import json

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from echo.checkpoints.convert import convert
from echo.checkpoints.load import load_model
from echo.cli import app
from echo.data.sources import read_source
from echo.evaluate import sweep as sweeping
from echo.evaluate.decoding import Transcripts
from echo.evaluate.evaluation import evaluate_model, score
from echo.evaluate.normaliser import normaliser
from echo.support.errors import EchoError
from tests.data.recordings import write, write_manifest
from tests.small_whisper import edit, save_whisper, small_whisper


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A Whisper, an Echo model that pads otherwise, and two manifests."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("start", "other")):
        torch.manual_seed(seed)
        save_whisper(small_whisper(), folder / name)
        edit("generation_config.json", is_multilingual=False)(folder / name)
    plain = ["attention.encoder=plain", "attention.decoder=plain"]
    convert(folder / "other", folder / "tuned", plain)
    edit("config.json", pad_to_seconds=None, added_silence=1.0)(folder / "tuned")
    for name, texts in {"own": ["the fox", "the dog"], "general": ["lazy", "dog", "fox"]}.items():
        rows = []
        for i, text in enumerate(texts):
            write(folder / f"{name}{i}.wav")
            rows.append({"audio_filepath": f"{name}{i}.wav", "text": text})
        write_manifest(folder / f"{name}.jsonl", *rows)
    return folder


def merge(models, out, *options, command="merge"):
    names = [str(models / "start"), str(models / "tuned")]
    return CliRunner().invoke(app, [command, *names, "--out", str(out), *options])


def sets(models):
    return [f"--data={name}={models / name}.jsonl" for name in ("own", "general")]


def test_each_weight_is_measured_and_the_best_is_written(models, tmp_path, monkeypatch):
    heard = []
    # Wrong words of own (4) and of general (2), at weights 0, 0.5 and 1.
    wrong = iter([4, 0, 2, 1, 0, 2])

    def measured(loaded, utterances, *rest):
        config = loaded.model.config
        heard.append((config.pad_to_seconds, config.added_silence))
        left, texts = next(wrong), []
        for utterance in utterances:
            words = utterance.text.split()
            texts.append(" ".join("wrong" if i < left else w for i, w in enumerate(words)))
            left -= len(words)
        english = normaliser("en", loaded.tokenizer, [])
        return score(Transcripts(list(utterances), texts, 1.0), english)

    monkeypatch.setattr(sweeping, "evaluate_model", measured)
    out = tmp_path / "out"
    options = ["--sweep=0,0.5,1", *sets(models), "--utterances=2", "--best-by=own + 3 general"]
    result = merge(models, out, *options)
    assert result.exit_code == 0, result.output
    assert heard == [(30.0, 0.0)] * 2 + [(None, 1.0)] * 4
    found = json.loads((out / "sweep.json").read_text())
    assert (found["best"], found["best_by"]) == (0, "own + 3 general")
    assert [p["weight"] for p in found["weights"]] == [0, 0.5, 1]
    assert [p["wer"] for p in found["weights"]] == [0.25, 0.5, 0.75]
    assert [p["sets"]["general"]["utterances"] for p in found["weights"]] == [2] * 3
    written = load_file(out / "model.safetensors")
    for name, weight in load_file(models / "start" / "model.safetensors").items():
        assert torch.equal(written[name], weight), name
    lines = (out / "sweep.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    assert cells[0] == ["weight", "padding", "WER of own", "WER of general", "own + 3 general"]
    assert cells[2] == ["**0**", "to 30 s", "100.00 %", "0.00 %", "25.00 %"]
    assert cells[3] == ["0.5", "1 s after each", "50.00 %", "50.00 %", "50.00 %"]
    assert "**0**" in (out / "README.md").read_text()


def test_an_end_of_the_sweep_is_measured_as_the_model_itself(models, tmp_path):
    result = merge(models, tmp_path / "out", "--sweep=1", f"--data={models / 'own.jsonl'}")
    assert result.exit_code == 0, result.output
    loaded = load_model(models / "tuned")
    expected = evaluate_model(loaded, read_source(str(models / "own.jsonl")))
    [point] = json.loads((tmp_path / "out" / "sweep.json").read_text())["weights"]
    assert point["sets"][""]["wer_normalised"] == expected.wer_normalised.to_dict()
    assert (point["pad_to_seconds"], point["added_silence"]) == (None, 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "merge needs --weights, as 0.5,0.5, or --sweep"),
        (["--weights=1,0", "--sweep=0"], "leave one out"),
        (["--weights=1,0", "--beams=2"], "--beams has no effect without --sweep"),
        (["--weights=1,0", "--data=a"], "--data has no effect without --sweep"),
        (["--weights=1,x"], "--weights: '1,x' must be numbers separated by commas"),
        (["--weights=1"], "--weights has 1 numbers for 2 models"),
        (["--sweep=0"], "--sweep needs --data"),
        (["--sweep=0,2", "--data=DATA"], "--sweep must be numbers from 0 to 1"),
        (["--sweep=0", "--data=a", "--data=own=b"], "each of several needs a name"),
        (["--sweep=0", "--data=own=DATA", "--best-by=owm"], "--best-by names the data set 'owm'"),
    ],
)
def test_what_is_asked_wrongly_is_told_in_one_sentence(models, tmp_path, options, message):
    options = [option.replace("DATA", str(models / "own.jsonl")) for option in options]
    result = merge(models, tmp_path / "out", *options)
    assert isinstance(result.exception, EchoError), result.output
    assert message in str(result.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [[], ["--weights", "0.5,0.5"], ["--sweep=0", "--data=a"]])
def test_averaging_models_is_told_to_merge(models, tmp_path, options):
    result = merge(models, tmp_path / "out", *options, command="average")
    assert isinstance(result.exception, EchoError), result.output
    assert "to mix models, use: echo-asr merge" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_one_mean_is_written_as_the_leader_generates(models, tmp_path):
    result = merge(models, tmp_path / "out", "--weights=0.25,0.75")
    assert result.exit_code == 0, result.output
    assert f"pads and generates as {models / 'tuned'} does" in result.output
    parents = [load_file(models / name / "model.safetensors") for name in ("start", "tuned")]
    for name, weight in load_file(tmp_path / "out" / "model.safetensors").items():
        expected = 0.25 * parents[0][name] + 0.75 * parents[1][name]
        torch.testing.assert_close(weight, expected), name
