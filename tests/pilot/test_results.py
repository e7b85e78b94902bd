"""Differences and equal seconds, against what is known of the data they are made from."""

import json

import numpy as np
import pytest

from echo.evaluate.decodings import DECODER
from echo.evaluate.statistics import interval, resampled_deviations, resampled_rates
from echo.pilot.contenders import read_pilot
from echo.pilot.equal_seconds import at_equal_seconds, count_ahead
from echo.pilot.measure import read_heard, watched
from echo.pilot.result import differences, run_folder

WORDS = 10


def write(folder, errors, ids=None, speakers=None):
    folder.mkdir(parents=True)
    ids = ids or [f"u{i}" for i in range(len(errors))]
    with (folder / "utterances.jsonl").open("w") as file:
        for i, (id, wrong) in enumerate(zip(ids, errors, strict=True)):
            counts = {"substitutions": int(wrong), "deletions": 0, "insertions": 0}
            speaker = speakers and speakers[i]
            line = {"id": id, "speaker": speaker, "wer": {**counts, "reference": WORDS}}
            file.write(json.dumps(line) + "\n")


def pilot_of(seeds, *names):
    content = {"data": {"corpus": "espeak"}, "models": dict.fromkeys(names)}
    return read_pilot(content, "test", seeds=seeds)


def test_differences_are_pooled_over_seeds_and_utterances(tmp_path):
    rng = np.random.default_rng(0)
    errors = {name: rng.integers(0, 5, (2, 30)) for name in ("one", "other", "base")}
    for name, by_seed in errors.items():
        for seed, row in zip((4, 5), by_seed, strict=True):
            write(run_folder(tmp_path, name, seed) / "evaluation", row)
    found = differences(pilot_of([4, 5], *errors), tmp_path, ["joint"])
    assert found["resampling"]["unit"] == "utterance"
    assert (found["resampling"]["seeds"], found["resampling"]["units"]) == (2, 30)
    stacked = np.stack([*errors.values()])
    rates = resampled_rates(stacked.sum(1), np.full(30, 2 * WORDS), range(30))
    rates += resampled_deviations(stacked.sum(2) / (30 * WORDS))
    for i, name in enumerate(("one", "other")):
        difference = found["differences"]["joint"][name]
        expected = (errors[name].sum() - errors["base"].sum()) / (2 * 30 * WORDS)
        assert difference["difference"] == pytest.approx(expected)
        assert difference["interval"] == pytest.approx(interval(rates[i] - rates[2]))


def test_speakers_are_drawn_where_there_are_enough(tmp_path):
    speakers = [f"s{i // 2}" for i in range(50)]
    for name in ("one", "base"):
        write(run_folder(tmp_path, name, 1) / "evaluation", [1] * 50, speakers=speakers)
    found = differences(pilot_of([1], "one", "base"), tmp_path, ["joint"])
    assert (found["resampling"]["unit"], found["resampling"]["units"]) == ("speaker", 25)
    assert found["differences"]["joint"]["one"] == {
        "difference": 0,
        "interval": (0, 0),
        "better": 0.5,
    }


def test_only_utterances_that_all_transcribed_are_compared(tmp_path):
    write(run_folder(tmp_path, "one", 1) / "evaluation", [0, 9, 0], ["a", "b", "c"])
    write(run_folder(tmp_path, "base", 1) / "evaluation", [1, 1], ["c", "a"])
    found = differences(pilot_of([1], "one", "base"), tmp_path, ["joint"])
    assert found["resampling"]["utterances"] == 2
    assert found["differences"]["joint"]["one"]["difference"] == pytest.approx(-0.1)


def test_a_model_without_a_ctc_head_is_decoded_by_its_decoder(tmp_path):
    """So its one evaluation is compared with the others' by the decoder alone."""
    write(run_folder(tmp_path, "one", 1) / "evaluation", [2, 2])
    write(run_folder(tmp_path, "base", 1) / "evaluation", [1, 1])
    write(run_folder(tmp_path, "base", 1) / "evaluation-decoder", [5, 5])
    assert read_heard(run_folder(tmp_path, "one", 1), DECODER)["u0"]["wer"]["substitutions"] == 2
    found = differences(pilot_of([1], "one", "base"), tmp_path, ["joint", "decoder"])["differences"]
    assert found["joint"]["one"]["difference"] == pytest.approx(0.1)
    assert found["decoder"]["one"]["difference"] == pytest.approx(-0.3)


def events(*points):
    found = [
        {"kind": "eval", "step": i, "seconds": s, "wer": w} for i, (s, w) in enumerate(points, 1)
    ]
    return [{"kind": "train", "step": 0, "seconds": 1, "loss": 1}, *found]


def test_the_baseline_s_wer_is_read_off_at_the_same_seconds():
    baseline = events((10, 0.8), (20, 0.4))
    found = at_equal_seconds(events((5, 0.9), (10, 0.7), (15, 0.7), (25, 0.3)), baseline)
    assert [(e["seconds"], e["wer"]) for e in found] == [(10, 0.7), (15, 0.7), (25, 0.3)]
    assert [e["baseline_wer"] for e in found] == pytest.approx([0.8, 0.6, 0.4])
    assert count_ahead(found) == {"evaluations": 3, "ahead": 2, "ahead_after_seconds": 15}
    assert count_ahead(found[:2])["ahead_after_seconds"] is None  # behind at the last
    assert count_ahead(found[2:])["ahead_after_seconds"] == 0
    assert at_equal_seconds(events((5, 0.9)), events()) == []
    before_training = {"kind": "eval", "step": 0, "seconds": 30, "wer": 0.1}
    assert at_equal_seconds([before_training], baseline) == []
    assert count_ahead([])["evaluations"] == 0


def test_what_is_watched_is_a_mean_over_blocks():
    event = {"span/encoder.0": 0.2, "span/encoder.1": 0.4, "temperature/encoder.0": 1.0}
    assert watched(event) is None
    found = watched({**event, "gain/encoder.0": 0.5})
    assert found == {"span": pytest.approx(0.3), "temperature": 1.0, "gain": 0.5}
