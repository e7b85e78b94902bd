"""WER in noise, and words written where nobody speaks."""

import json
from dataclasses import replace

import numpy as np
import pytest

from echo.data.audio import AudioArray
from echo.data.noise import AudioFolder
from echo.data.utterance import Utterance
from echo.evaluate.evaluation import evaluate_model
from echo.evaluate.noise import measure_noise, noisy
from tests.data.recordings import tone, write, write_manifest
from tests.test_cli import run
from tests.transcribe.test_transcribe import untrained

RATE = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("noises")
    for seed in range(3):
        samples = 0.1 * np.random.default_rng(seed).standard_normal(3 * RATE)
        write(path / f"{seed}.wav", samples)
    return path


@pytest.fixture(scope="module")
def utterances():
    return [
        Utterance(f"u{n}", AudioArray(tone(0.5 + n / 4).T, RATE, f"u{n}"), "one two", 0.5 + n / 4)
        for n in range(4)
    ]


def test_each_snr_is_measured_and_what_is_written_in_noise_alone(folder, utterances):
    loaded = untrained()
    noises = AudioFolder.at(folder, "--noise")
    found = measure_noise(loaded, utterances, noises, [10.0, -5.0])
    assert list(found.curve) == [10.0, -5.0]
    for snr, evaluation in found.curve.items():
        alone = evaluate_model(loaded, [noisy(u, noises, snr) for u in utterances])
        assert evaluation.hypotheses == alone.hypotheses
        assert evaluation.wer == alone.wer
    written = evaluate_model(loaded, [noisy(u, noises, None) for u in utterances]).hypotheses
    minutes = (0.5 + 0.75 + 1.0 + 1.25) / 60
    assert found.words_per_minute == pytest.approx(
        sum(len(text.split()) for text in written) / minutes
    )
    assert found.to_dict()["non_speech"]["words"] == sum(len(text.split()) for text in written)


def test_rows_are_normalised_in_their_own_languages_in_noise_too(folder, utterances):
    loaded = untrained()
    said = {"hi": "रही है", "ja": "一 二", "en": "Twenty colours", None: "Mr. Smith"}
    rows = [
        replace(row, text=text, language=code)
        for row, (code, text) in zip(utterances, said.items(), strict=True)
    ]
    clean = evaluate_model(loaded, rows)
    found = measure_noise(loaded, rows, AudioFolder.at(folder, "--noise"), [0.0])
    assert found.curve[0.0].normaliser == found.alone.normaliser == clean.normaliser
    assert found.curve[0.0].references_normalised == clean.references_normalised
    assert clean.references_normalised == ["रही है", "一 二", "20 colours", "mister smith"]
    assert found.curve[0.0].references[1] == "一 二"
    for evaluation in (found.curve[0.0], found.alone):
        letters = evaluation.hypotheses[1].split()
        assert len(letters) > 1
        assert set(map(len, letters)) == {1}  # letters, in Japanese alone
        assert any(len(word) > 1 for word in evaluation.hypotheses[0].split())
    assert found.unit == "words and letters"
    assert measure_noise(loaded, rows[:1], AudioFolder.at(folder, ""), [0.0]).unit == "words"
    assert measure_noise(loaded, rows[1:2], AudioFolder.at(folder, ""), [0.0]).unit == "letters"


def test_the_noise_depends_on_the_utterance_alone(folder, utterances):
    """So that every model and every run hears the same, and each SNR the same noise."""
    noises = AudioFolder.at(folder, "--noise")
    clean = utterances[1].audio.load()
    first, again, loud = (
        noisy(utterances[1], noises, snr).audio.load() - clean for snr in (10.0, 10.0, 0.0)
    )
    assert (first == again).all()
    np.testing.assert_allclose(loud.numpy(), first.numpy() * 10**0.5, rtol=1e-3, atol=1e-6)
    other = noisy(utterances[2], noises, None).audio.load()[: len(clean)]
    assert not np.allclose(other, noisy(utterances[1], noises, None).audio.load())


def test_the_command_writes_the_curve(monkeypatch, capsys, tmp_path, folder):
    model, loaded = tmp_path / "model", untrained()
    loaded.model.save_pretrained(model)
    loaded.tokenizer.save_pretrained(model)
    write(tmp_path / "a.wav")
    rows = [
        {"audio_filepath": "a.wav", "text": "the dog"},
        {"audio_filepath": "a.wav", "text": ""},
    ]
    data = write_manifest(tmp_path / "a.jsonl", *rows)
    out = tmp_path / "out"
    options = ["--noise", folder, "--snr", "20,0", "--out", out]
    code, text, err = run(monkeypatch, capsys, "evaluate", model, data, *options)
    assert code == 0, err
    result = json.loads((out / "evaluation.json").read_text())
    assert [point["snr"] for point in result["noise"]["curve"]] == [20, 0]
    for point in result["noise"]["curve"]:
        own = json.loads((out / f"snr_{point['snr']:g}" / "evaluation.json").read_text())
        assert own["wer"] == point["wer"]
        assert f"{100 * point['wer']['rate']:.2f} %" in text
    silent = result["noise"]["non_speech"]
    assert silent["minutes"] == pytest.approx(2 / 60)
    assert f"Without speech: {silent['words']} words in 0.0 minutes" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--snr", "5"], "--snr has no effect without --noise"),
        (["--noise", "nowhere"], "--noise: nowhere: no such folder"),
        (
            ["--noise", ".", "--snr", "loud"],
            "--snr: 'loud' must be numbers separated by commas",
        ),
        (["--noise", ".", "--snr", ""], "--snr: '' must be numbers separated by commas"),
        (["--noise", ".", "--snr", "5,5"], "--snr is '5,5', but must be different numbers"),
        (["--noise", ".", "--snr", "nan"], "--snr is 'nan', but must be different numbers"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(monkeypatch, capsys, tmp_path, options, message):
    code, _, err = run(monkeypatch, capsys, "evaluate", tmp_path, "fsdd:nowhere", *options)
    assert code == 2
    assert err.startswith("echo-asr: ")
    assert message in err
    assert len(err.strip().splitlines()) == 1
