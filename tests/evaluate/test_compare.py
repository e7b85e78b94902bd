"""Comparisons from end to end: of tiny models on tones, and of a real one on real speech."""

import json
from dataclasses import replace

import pytest
import torch

from echo.checkpoints.run import save_model
from echo.config import DecodeSettings, RunConfig
from echo.data.sources import read_source
from echo.evaluate import compare
from echo.evaluate.compare import compare_models, unique_names
from echo.evaluate.decoding import Transcripts
from echo.evaluate.evaluation import score
from echo.evaluate.normaliser import Normaliser
from echo.evaluate.wer import word_errors
from echo.support.errors import EchoError
from echo.support.settings import build
from echo.train.build import build_model, build_tokenizer
from tests.data.recordings import tone, write, write_manifest
from tests.small_whisper import edit
from tests.test_cli import run as cli

TINY = {
    "model": {
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "heads": 2,
        "max_seconds": 4,
        "max_tokens": 12,
    }
}
ROWS = [
    {"audio_filepath": "a.wav", "text": "one two", "speaker": "x", "noise": "low"},
    {"audio_filepath": "b.wav", "text": "two", "speaker": "x", "noise": "low"},
    {"audio_filepath": "c.wav", "text": "one", "speaker": "y", "noise": "high"},
]


def save_tiny(folder, utterances, **model):
    config = build(RunConfig, {"model": {**TINY["model"], **model}}, "test")
    tokenizer = build_tokenizer(config, utterances)
    save_model(build_model(config, tokenizer), tokenizer, folder)
    return str(folder)


@pytest.fixture
def data(tmp_path):
    for seconds, row in zip((1.0, 3.0, 0.5), ROWS, strict=True):
        write(tmp_path / row["audio_filepath"], tone(seconds))
    return write_manifest(tmp_path / "data.jsonl", *ROWS)


@pytest.fixture
def utterances(data):
    return read_source(data)


@pytest.fixture
def models(tmp_path, utterances):
    """One that takes 4 seconds, and one that takes 2."""
    return [
        save_tiny(tmp_path / "long", utterances),
        save_tiny(tmp_path / "short", utterances, max_seconds=2),
    ]


def run(sources, utterances, out, **settings):
    return compare_models(sources, "data.jsonl", utterances, out, DecodeSettings(), **settings)


def lines(out, name):
    text = (out / name / "utterances.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_everything_is_written_and_the_same_again(utterances, models, tmp_path):
    sources = [models[0], models[0]]
    found = run(sources, utterances, tmp_path / "out", by=["speaker", "noise"])
    assert json.loads((tmp_path / "out/comparison.json").read_text()) == json.loads(
        json.dumps(found)
    )
    assert [m["name"] for m in found["models"]] == ["long", "long-2"]
    for model in found["models"]:
        written = lines(tmp_path / "out", model["name"])
        counts = word_errors(
            [line["reference"] for line in written], [line["hypothesis"] for line in written]
        )
        assert found["rates"][model["name"]]["wer"].items() >= counts.to_dict().items()
        weights = sum(p.numel() for p in compare.load_model(models[0], "best").model.parameters())
        assert model["parameters"] == weights
        assert model["peak_memory_bytes"] > 4 * weights
        assert model["rtfx"] > 0
    itself = found["differences"]["long-2"]["wer"]
    assert itself == {"difference": 0, "interval": (0, 0), "better": 0.5}
    assert [g["group"] for g in found["groups"]["speaker"]] == ["x", "y"]
    assert [g["group"] for g in found["groups"]["noise"]] == ["high", "low"]
    markdown = (tmp_path / "out/comparison.md").read_text()
    assert "## WER by noise" in markdown
    again = run(sources, utterances, tmp_path / "again")
    assert [again[key] for key in ("rates", "differences")] == [
        found[key] for key in ("rates", "differences")
    ]


def test_what_one_model_cannot_take_is_left_out_for_all(utterances, models, tmp_path):
    with pytest.raises(EchoError, match=r"short: .*:2: the audio is 3.0 s long.* takes 2.0 s"):
        run(models, utterances, tmp_path / "out")
    found = run(models, utterances, tmp_path / "out", on_error="skip")
    assert (found["utterances"], found["left_out"]) == (2, 1)
    assert {r["wer"]["reference"] for r in found["rates"].values()} == {3}


def test_what_was_heard_by_one_model_alone_is_left_out(utterances, models, tmp_path, monkeypatch):
    """The header may say less than there is: then only decoding shows what is too long."""
    monkeypatch.setattr(compare, "check_utterances", lambda utterances, *_: utterances)
    found = run(models, utterances, tmp_path / "out", on_error="skip")
    assert (found["utterances"], found["left_out"]) == (2, 1)
    assert len(lines(tmp_path / "out", "long")) == 3


def test_models_that_heard_nothing_in_common_are_not_compared(utterances):
    heard = {
        u.id: score(Transcripts([u], ["one"], 1.0), Normaliser("lower", str.lower))
        for u in utterances
    }
    with pytest.raises(EchoError, match="no utterance that all models could transcribe"):
        compare.on_common(heard)


def test_the_shortest_recording_may_be_the_unreadable_one(utterances, models, tmp_path):
    (tmp_path / "c.wav").write_bytes(b"not a recording")
    with pytest.raises(EchoError, match=r"c\.wav"):
        run(models[:1] * 2, utterances, tmp_path / "out")
    found = run(models[:1] * 2, utterances, tmp_path / "out", on_error="skip")
    assert (found["utterances"], found["left_out"]) == (2, 1)


def test_all_are_measured_with_the_one_normaliser_that_knows_most(utterances, models, monkeypatch):
    load = compare.load_model

    def with_spellings(source, *options):
        loaded = load(source, *options)
        if source == models[1]:
            loaded.tokenizer.english_spelling_normalizer = {"colour": "color"}
        return loaded

    monkeypatch.setattr(compare, "load_model", with_spellings)
    for sources in (models, models[::-1]):
        _, normalise = compare.prepare(sources, utterances[:1], compare.load_model, "raise")
        assert normalise("Colour") == "color"


@pytest.mark.parametrize("first", [0, 1])
def test_speed_is_measured_at_the_first_models_padding_too(
    utterances, models, tmp_path, monkeypatch, first
):
    """Where the models pad differently, and the second's windows are long enough."""
    edit("config.json", pad_to_seconds=3.0)(tmp_path / "long")
    heard = []
    transcribe = compare.transcribe_set

    def spy(loaded, utterances, *rest, limits=None, **options):
        settings, *_ = rest
        if utterances[0].id != "silence" and not settings.ctc_alone:
            heard.append(limits and (limits.pad_to_seconds, limits.added_silence))
        return transcribe(loaded, utterances, *rest, limits=limits, **options)

    monkeypatch.setattr(compare, "transcribe_set", spy)
    long = models[0]
    sources = [models[first], models[1 - first], long]
    found = run(sources, utterances, tmp_path / "out", on_error="skip")["models"]
    paddings = [m["padding"]["pad_to_seconds"] for m in found]
    assert paddings == [3.0 if source == long else 0.0 for source in sources]
    for model, padding in zip(found, paddings, strict=True):
        if padding == paddings[0]:
            assert model["rtfx_equal_padding"] == model["rtfx"]
    if first == 0:
        assert heard == [None, None, None]  # 3 s are too long for the short one
        assert found[1]["rtfx_equal_padding"] is None
    else:
        assert heard == [None, None, (0.0, 0.0), None, (0.0, 0.0)]
        assert found[1]["rtfx_equal_padding"] > 0


def test_the_checkpoint_of_a_model_is_named(utterances, models, tmp_path, monkeypatch):
    load = compare.load_model
    monkeypatch.setattr(
        compare, "load_model", lambda *options: replace(load(*options), checkpoint="step-7")
    )
    found = run(models[:1] * 2, utterances, tmp_path / "out")
    assert [m["checkpoint"] for m in found["models"]] == ["step-7"] * 2


def test_names_are_unlike(tmp_path):
    sources = ["runs/a", "org/A", str(tmp_path / "b"), "b-2", "b", "/"]
    assert unique_names(sources) == ["a", "A-2", "b", "b-2", "b-3", "model"]


def test_errors_come_before_anything_is_measured(utterances, models, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(EchoError, match="two or more models"):
        run(models[:1], utterances, out)
    with pytest.raises(EchoError, match=r"no column 'age' .* there is duration, speaker, noise"):
        run(models, utterances, out, by=["age"])
    with pytest.raises(EchoError, match="is neither a run nor a model"):
        run([models[0], str(tmp_path)], utterances, out)
    (tmp_path / "short" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(EchoError, match=r"short/model\.safetensors: cannot be read as safetensors"):
        run(models, utterances, out)
    assert not list(out.glob("*/*"))
    (tmp_path / "file").touch()
    with pytest.raises(EchoError, match="file: is a file, but must be a folder"):
        run(models, utterances, tmp_path / "file")


def test_what_was_measured_stays_when_the_next_model_fails(
    utterances, models, tmp_path, monkeypatch
):
    transcribe = compare.transcribe_set

    def failing(loaded, *rest, **settings):
        if loaded.model.config.max_source_positions < 200:
            raise EchoError("no more")
        return transcribe(loaded, *rest, **settings)

    monkeypatch.setattr(compare, "transcribe_set", failing)
    with pytest.raises(EchoError, match="no more"):
        run(models, utterances[:1], tmp_path / "out")
    assert len(lines(tmp_path / "out", "long")) == 1
    assert not (tmp_path / "out/comparison.json").exists()


def test_the_command(models, data, tmp_path, monkeypatch, capsys):
    arguments = ["--data", data, "--out", tmp_path / "out", "--by", "noise", "--by", "duration"]
    code, out, _ = cli(monkeypatch, capsys, "compare", *models, *arguments, "--skip-errors")
    assert code == 0
    assert "## Against long, by WER as written" in out
    found = json.loads((tmp_path / "out/comparison.json").read_text())
    assert list(found["groups"]) == ["noise", "duration"]
    code, _, err = cli(monkeypatch, capsys, "compare", models[0], *arguments)
    assert code == 2
    assert err == "echo-asr: a comparison needs two or more models\n"


@pytest.mark.slow
def test_whisper_against_itself_and_a_model_that_knows_nothing(shared, tmp_path):
    whisper = str(shared / "models" / "whisper-tiny.en")
    source = str(shared / "data" / "librispeech" / "layout-sample")
    utterances = sorted(read_source(source), key=lambda u: u.duration)[:2]
    torch.manual_seed(0)
    random = save_tiny(tmp_path / "random", utterances, max_seconds=30)
    found = run([whisper, whisper, random], utterances, tmp_path / "out", by=["duration"])
    rates = {name: r["wer_normalised"]["rate"] for name, r in found["rates"].items()}
    assert rates["whisper-tiny.en"] == rates["whisper-tiny.en-2"] < 0.3
    assert found["differences"]["random"]["wer_normalised"]["better"] < 0.05
    assert found["changed"]["whisper-tiny.en-2"] == []
    assert {c["id"] for c in found["changed"]["random"]} == {u.id for u in utterances}
    one, other, _ = found["models"]
    assert one["peak_memory_bytes"] == pytest.approx(other["peak_memory_bytes"], rel=0.3)
    assert "REF: " in (tmp_path / "out/comparison.md").read_text()


@pytest.fixture
def several(data, tmp_path):
    """Two data sets, in which the same ids stand for other recordings."""
    (tmp_path / "other").mkdir()
    for seconds, row in zip((0.7, 1.1), ROWS, strict=False):
        write(tmp_path / "other" / row["audio_filepath"], tone(seconds, 300))
    rows = [{**row, "text": text} for row, text in zip(ROWS, ("two two", "one"), strict=False)]
    return {"own": data, "other": str(write_manifest(tmp_path / "other/data.jsonl", *rows))}


def test_several_sets_are_as_each_by_itself_and_the_mean_counts_each_alike(
    models, several, tmp_path, monkeypatch, capsys
):
    sources = [f"--data={name}={path}" for name, path in several.items()]
    both = [models[0], models[1]]
    arguments = ["compare", *both, "--out", tmp_path / "out", "--skip-errors"]
    code, out, _ = cli(monkeypatch, capsys, *arguments, *sources)
    assert code == 0
    found = json.loads((tmp_path / "out/comparison.json").read_text())
    assert [*found["sets"]] == ["own", "other"]
    alone = {
        name: run(both, read_source(path), tmp_path / name, on_error="skip")
        for name, path in several.items()
    }
    for name, one in alone.items():
        each = found["sets"][name]
        assert each["utterances"] == one["utterances"]
        for model, rates in one["rates"].items():
            for key, counts in rates.items():
                counts.pop("interval", None)  # each set has draws of its own
                assert counts.items() <= each["rates"][model][key].items()
    for model, rates in found["macro_average"]["rates"].items():
        for key, rate in rates.items():
            own, other = (one["rates"][model][key]["rate"] for one in alone.values())
            assert rate["rate"] == pytest.approx((own + other) / 2)
    mean = found["macro_average"]["differences"]["short"]["wer"]["difference"]
    by_set = [one["differences"]["short"]["wer"]["difference"] for one in alone.values()]
    assert mean == pytest.approx(sum(by_set) / 2)
    header = next(line for line in out.splitlines() if line.startswith("| model"))
    assert [cell.strip() for cell in header.split("|")[4:8]] == [
        *("padding", "Average WER", "WER on own", "WER on other"),
    ]
    page = (tmp_path / "out/report.html").read_text()
    assert "By data set" in page
    assert "own/a.wav" in page


def test_one_model_on_several_sets(models, several, tmp_path, monkeypatch, capsys):
    sources = [f"--data={name}={path}" for name, path in several.items()]
    arguments = ["evaluate", models[0], "--out", tmp_path / "out"]
    code, out, _ = cli(monkeypatch, capsys, *arguments, *sources)
    assert code == 0
    found = json.loads((tmp_path / "out/evaluation.json").read_text())
    lines = [line.split("|")[1:4] for line in out.splitlines() if line.startswith("|")][2:]
    for (name, path), line in zip(several.items(), lines, strict=False):
        out = tmp_path / name
        assert cli(monkeypatch, capsys, "evaluate", models[0], path, "--out", out)[0] == 0
        one = json.loads((out / "evaluation.json").read_text())
        assert "sets" not in one
        assert found["sets"][name].items() <= one.items()
        rate = f"{100 * one['wer']['rate']:.2f} %"
        assert [cell.strip() for cell in line] == [name, str(one["utterances"]), rate]
    mean = sum(one["wer"]["rate"] for one in found["sets"].values()) / 2
    assert found["macro_average"]["wer"]["rate"] == pytest.approx(mean)
    assert lines[2][0].strip() == "average"
    assert "Average WER" in (tmp_path / "out/report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "evaluate takes one DATA, or --data NAME=SOURCE for each of several"),
        (["x.jsonl", "--data", "a=x.jsonl"], "evaluate takes one DATA"),
        (["--data", "a=x", "--data", "y"], "'y': each of several needs a name"),
        (["--data", "a=x", "--data", "a=y"], "'a=y': each of several needs a name"),
        (["--data", "a=x", "--data", "b=gone.jsonl"], "gone.jsonl: no such file"),
    ],
)
def test_data_sets_are_named_once_each(monkeypatch, capsys, models, arguments, message):
    code, _, err = cli(monkeypatch, capsys, "evaluate", models[0], *arguments)
    assert code == 2
    assert message in err


@pytest.mark.parametrize("name", ["comparison.json", "REPORT.html"])
def test_a_model_by_the_name_of_a_result_is_refused_before_measuring(
    models, utterances, tmp_path, name
):
    out = tmp_path / "out"
    with pytest.raises(EchoError, match="has the name of a file of the comparison"):
        run([models[0], str(tmp_path / name)], utterances, out)
    assert not out.exists()


def test_a_folder_in_the_place_of_a_result_is_refused_before_measuring(
    models, utterances, tmp_path
):
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    with pytest.raises(EchoError, match=r"report\.html: is a folder, but must be a file"):
        run(models, utterances, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.html"]
