"""What a page says of a result, and which results it takes."""

import json
import re
import shutil
from dataclasses import replace

import pytest

from echo.report.configs import differing
from echo.report.curves import max_spans, thinned
from echo.report.groups import groups_of
from echo.report.read import find_utterances, read_result
from echo.report.write import sections, write_report
from echo.support.errors import DataError
from tests.report.results import comparison, data_set, pilot

TEXTS = ["one two three four", "one two three four", "five six", "seven"]
WORSE = ["one two three for", "one two", "five six six", "seven"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return data_set(tmp_path_factory.mktemp("data"), TEXTS, seconds=0.1)


@pytest.fixture(scope="module")
def compared(data, tmp_path_factory):
    return comparison(tmp_path_factory.mktemp("compared"), data, base=WORSE, other=TEXTS)


@pytest.fixture(scope="module")
def piloted(data, tmp_path_factory):
    heard = {"echo": [TEXTS, TEXTS], "whisper": [WORSE, TEXTS]}
    return pilot(tmp_path_factory.mktemp("piloted"), data, heard)


def found(folder):
    result, _ = read_result(folder)
    return sections(result, {}, {}, [])


def test_a_comparison_is_read_as_it_was_counted(compared):
    shown = found(compared)
    recorded = json.loads((compared / "comparison.json").read_text())
    for name, rate in shown["overall"].items():
        assert rate.value == pytest.approx(recorded["rates"][name]["wer"]["rate"])
    # 4 errors in 11 words: for, three four, six
    assert shown["verdict"].headline.startswith(
        "other gets 0.00 % of the words wrong, base 36.4 %: 100 % fewer errors"
    )
    totals = {kind: found.total() for kind, found in shown["mistakes"]["base"].items()}
    assert totals == {"s": 1, "i": 1, "d": 2}
    assert [row["texts"][0]["kinds"][0] for row in shown["table"]["rows"]] == [
        "===s",
        "==dd",
        "==i",
        "=",
    ]
    assert shown["table"]["changed"] == [1, 0, 2]
    assert list(shown["differing"]) == ["attention.encoder"]
    assert shown["training"] == []
    assert shown["attention"] == {}


def test_groups_add_up_to_all(compared):
    shown = found(compared)
    speakers = shown["groups"]["speaker"]
    assert {group.label: group.utterances for group in speakers} == {"s0": 2, "s1": 2}
    rates = {group.label: group.rates["base"].value for group in speakers}
    assert rates == {"s0": pytest.approx(2 / 6), "s1": pytest.approx(2 / 5)}


def test_groups_are_by_the_columns_that_were_asked_for(compared):
    result, recordings = read_result(compared)
    assert "noise" not in groups_of(result)
    found = find_utterances(result.lines, recordings)
    lines = [replace(line, extra=found[line.id].extra) for line in result.lines]
    groups = groups_of(replace(result, lines=lines))
    assert groups["noise"] == {"n0": [0, 1, 2], "n1": [3]}
    assert "By noise" in write_report(compared).read_text()


def test_a_pilot_has_curves_of_all_seeds_and_spans_in_milliseconds(piloted):
    shown = found(piloted)
    loss, wer = shown["training"]
    assert [curve["name"] for curve in loss["curves"]] == [
        "echo, seed 1",
        "echo, seed 2",
        "whisper, seed 1",
        "whisper, seed 2",
    ]
    assert wer["curves"][0]["values"] == [50.0, 25.0, 16.67, 12.5]
    assert wer["curves"][0]["seconds"] == [2.0, 4.0, 6.0, 8.0]
    [span, *_] = shown["attention"]["echo"]
    assert span["curves"][0]["values"] == [160.0] * 4  # half of 16 frames of 20 ms
    assert set(shown["attention"]) == {"echo"}


def test_a_run_of_a_pilot_and_an_evaluation_have_pages_too(piloted, compared):
    run = found(piloted / "echo" / "seed-1")
    assert run["verdict"].headline == "seed-1 gets 0.00 % of the words wrong."
    assert len(run["training"]) == 2
    evaluation = found(compared / "base")
    assert evaluation["verdict"].headline == "base gets 36.4 % of the words wrong."
    assert evaluation["training"] == []


def test_sections_without_content_are_absent(compared):
    page = write_report(compared).read_text()
    for absent in ('id="curves"', 'id="attention"', "uPlot"):
        assert absent not in page
    for present in ('id="groups"', 'id="mistakes"', 'id="utterances"', 'id="made"'):
        assert present in page
    assert "https://" not in page


def test_recordings_are_embedded_and_others_linked(compared, monkeypatch):
    whole = write_report(compared).read_text()
    assert '"link"' not in whole
    [sounds] = re.findall(r'id="sounds-data">(.*?)</script>', whole)
    assert sorted(json.loads(sounds)) == ["0", "1", "2", "3"]
    monkeypatch.setattr("echo.report.sound.EMBEDDED_BYTES", 3_000)
    partly = write_report(compared).read_text()
    [sounds] = re.findall(r'id="sounds-data">(.*?)</script>', partly)
    [table] = re.findall(r'id="utterances-data">(.*?)</script>', partly)
    linked = [row["link"] for row in json.loads(table)["rows"] if "link" in row]
    assert 0 < len(json.loads(sounds)) < 4
    assert len(linked) + len(json.loads(sounds)) == 4
    assert all((compared / link).exists() for link in linked)


def test_results_of_earlier_versions_have_fewer_sections(compared, tmp_path):
    """Without normalised texts, configs and provenance, and with the data gone."""
    content = json.loads((compared / "comparison.json").read_text())
    for model in content["models"]:
        del model["config"], model["padding"], model["checkpoint"], model["rtfx_equal_padding"]
        folder = tmp_path / model["name"]
        folder.mkdir()
        lines = (compared / model["name"] / "utterances.jsonl").read_text().splitlines()
        kept = ("id", "duration", "speaker", "reference", "hypothesis")
        rows = [{key: json.loads(line)[key] for key in kept} for line in lines]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "utterances.jsonl").write_text(text)
    content["data"] = "gone.jsonl"
    (tmp_path / "comparison.json").write_text(json.dumps(content))
    page = write_report(tmp_path).read_text()
    assert "What differs" not in page
    assert "Bars hold the 95 %" not in page  # the verdict's WER has no texts
    assert 'id="utterances"' in page


def test_what_is_no_result_is_named(tmp_path):
    with pytest.raises(DataError, match=r"holds no result; it has none of pilot.json"):
        write_report(tmp_path)
    (tmp_path / "comparison.json").write_text('{"models": 3}')
    with pytest.raises(DataError, match=r"comparison.json: is not what Echo writes"):
        write_report(tmp_path)


def test_settings_that_differ_are_found_at_any_depth():
    one = {"a": {"b": 1, "c": [1, 2]}, "d": None}
    other = {"a": {"b": 1, "c": [1, 3]}, "e": 2}
    assert differing({"one": one, "other": other}) == {
        "a.c": {"one": "[1, 2]", "other": "[1, 3]"},
        "d": {"one": "null", "other": "—"},
        "e": {"one": "—", "other": "2"},
    }


def test_long_curves_keep_their_end():
    events = [{"step": i} for i in range(2501)]
    kept = [event["step"] for event in thinned(events)]
    assert kept[-1] == 2500
    assert len(kept) <= 1000
    assert [*thinned(events[:3])] == events[:3]


def test_spans_are_known_for_the_layers_that_learn_them():
    config = {"model": {"encoder_layers": 2, "attention": {"encoder": ["plain", "adaptive"]}}}
    assert max_spans(config) == {"encoder.1": 32.0}


def test_a_config_that_is_none_is_named(compared, tmp_path):
    shutil.copytree(compared, tmp_path / "result")
    path = tmp_path / "result/comparison.json"
    found = json.loads(path.read_text())
    found["models"][0]["config"] = "adaptive"
    path.write_text(json.dumps(found))
    with pytest.raises(DataError, match=r"comparison.json: is not what Echo writes"):
        write_report(tmp_path / "result")


def test_an_utterance_of_another_kind_is_named(compared, tmp_path):
    shutil.copytree(compared, tmp_path / "result")
    path = next((tmp_path / "result").glob("*/utterances.jsonl"))
    first, *others = map(json.loads, path.read_text().splitlines())
    rows = [{**first, "duration": {}}, *others]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        DataError, match=r"is not what Echo writes .*duration of utterance .* is {}"
    ):
        write_report(tmp_path / "result")


@pytest.mark.parametrize("about", [{"data": {"test": {"seconds": None}}}, {"hardware": 3}])
def test_provenance_that_is_not_echos_is_named(compared, tmp_path, about):
    shutil.copytree(compared, tmp_path / "result")
    path = tmp_path / "result/provenance.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | about))
    with pytest.raises(DataError, match=r"is not what Echo writes"):
        write_report(tmp_path / "result")
