"""The page of what earlier versions wrote says what their files say."""

import json
import zipfile
from pathlib import Path

import pytest

from echo.report.read import read_result
from echo.report.write import sections, write_report

ARCHIVES = sorted((Path(__file__).parent / "results").glob("*.zip"))


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.stem)
def written(request, tmp_path, monkeypatch) -> Path:
    """A pilot of two models with two seeds, a comparison of two of its runs, and an evaluation,
    without checkpoints."""
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(folder: Path):
    result, _ = read_result(folder)
    return result, sections(result, {}, {}, [])


def test_a_pilot_opens(written):
    recorded = json.loads((written / "pilot" / "pilot.json").read_text())
    result, page = shown(written / "pilot")
    assert result.models == [model["model"] for model in recorded["models"]]
    for measure, key, decoding in zip(
        result.measures, ("wer", "wer_decoder"), ("joint", "decoder"), strict=True
    ):
        assert {model: rate.mean for model, rate in measure.rates.numbers.items()} == {
            model["model"]: model[key]["mean"] for model in recorded["models"]
        }
        [difference] = measure.differences
        one = recorded["differences"][decoding][difference.model]
        assert (difference.value, difference.interval) == (one["difference"], one["interval"])
    assert len(page["training"]) == 2
    assert "over 2 seeds and 3 utterances" in page["verdict"].sure
    assert "Save Training loss as SVG" in write_report(written / "pilot").read_text()


def test_a_comparison_opens(written):
    recorded = json.loads((written / "comparison" / "comparison.json").read_text())
    result, page = shown(written / "comparison")
    assert result.models == ["echo", "whisper"]
    for model, rates in zip(result.models, recorded["rates"].values(), strict=True):
        assert page["overall"][model].value == pytest.approx(rates["wer_normalised"]["rate"])
        assert page["overall"][model].interval == pytest.approx(rates["wer_normalised"]["interval"])
    assert "By noise" in write_report(written / "comparison").read_text()


@pytest.mark.parametrize(
    ("folder", "file", "key"),
    [
        ("evaluation", "evaluation.json", "wer_normalised"),
        ("pilot/echo/seed-1", "evaluation/evaluation.json", "wer"),
    ],
)
def test_what_is_of_one_model_opens(written, folder, file, key):
    rate = json.loads((written / folder / file).read_text())[key]["rate"]
    result, page = shown(written / folder)
    assert page["verdict"].headline == f"seed-1 gets {100 * rate:.1f} % of the words wrong."
    assert len(result.lines) == 3
    assert write_report(written / folder).exists()
