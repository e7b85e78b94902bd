"""The page of a data set says what the check says, of real recordings and of flawed ones."""

import json
import re
import unicodedata
from collections import Counter
from itertools import pairwise
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo.data.check import Flaw, check_source
from echo.data.prepare.filter.filter import filter_source
from echo.data.prepare.filter.rules import FilterSettings
from echo.data.sources import ReadOptions, read_source
from echo.report.dataset import Entry, characters, in_turn, to_embed
from echo.report.explore import write_exploration
from echo.report.histogram import BINS, histogram
from echo.report.timelines import joined, length
from tests.data.recordings import tone, write, write_manifest
from tests.test_cli import run

OUTSIDE = ReadOptions(allow_outside=True)


def embedded_json(page, name):
    [found] = re.findall(rf'id="{name}">(.*?)</script>', page.read_text(encoding="utf-8"))
    return json.loads(found)


def row(speaker=None, flaws=(), seconds=1.0, text="one", **told):
    return Entry("id", text, seconds, speaker, None, [Flaw(kind, "is so") for kind in flaws], told)


def write_long(folder, parts, name="data.jsonl", **told):
    """Writes a manifest of parts, from a second and as long, of a recording of 10 seconds."""
    if not (folder / "long.wav").exists():
        write(folder / "long.wav", tone(10) * np.linspace(0, 1, 160_000)[:, None])
    rows = [
        {"audio_filepath": "long.wav", "offset": at, "duration": seconds, "text": "one", **told}
        for at, seconds in parts
    ]
    return Path(write_manifest(folder / name, *rows))


def test_real_recordings_are_shown_as_they_are_read(shared, tmp_path):
    spec = str(shared / "data/librispeech/layout-sample")
    page = tmp_path / "page.html"
    report = write_exploration(spec, page).report
    assert report == check_source(spec)
    utterances = read_source(spec)
    rows = embedded_json(page, "utterances-data")["rows"]
    assert [(r["id"], r["text"], r["speaker"]) for r in rows] == [
        (u.id, u.text, u.speaker) for u in utterances
    ]
    for shown, utterance in zip(rows, utterances, strict=True):
        assert shown["seconds"] == pytest.approx(utterance.duration, abs=0.01)
        letters = sum(not character.isspace() for character in utterance.text)
        assert shown["speed"] == pytest.approx(letters / utterance.duration, abs=0.06)
    durations, speeds = embedded_json(page, "histograms-data")
    for one in (durations, speeds):
        assert sum(one["counts"]) + one["beyond"] == len(utterances)
    assert sorted(map(int, embedded_json(page, "sounds-data"))) == list(range(len(utterances)))
    assert "No problems" in page.read_text(encoding="utf-8")


def test_every_problem_is_on_the_page_and_comes_first(tmp_path):
    rising = tone(1.1) * np.linspace(0, 1, 17_600)[:, None]
    write(tmp_path / "good.wav", rising)
    write(tmp_path / "copy.wav", rising)
    write(tmp_path / "silent.wav", np.zeros(16_000))
    (tmp_path / "noise.wav").write_bytes(b"noise")
    spec = write_manifest(
        tmp_path / "m.jsonl",
        {"audio_filepath": "good.wav", "text": "one", "speaker": "x"},
        {"audio_filepath": "noise.wav", "text": "two", "duration": 1},
        {"audio_filepath": "gone.wav", "text": "three"},
        {"audio_filepath": "silent.wav", "text": "four", "duration": 9},
        {"audio_filepath": "copy.wav", "text": "one"},
    )
    page = tmp_path / "page.html"
    report = write_exploration(spec, page).report
    assert report == check_source(spec)
    shown = embedded_json(page, "utterances-data")
    kinds = Counter(kind for row in shown["rows"] for kind, _ in row["flaws"])
    assert kinds == {kind: len(found) for kind, found in report.problems.items()}
    assert kinds.total() == report.findings == 5
    assert shown["order"] == [1, 2, 3, 4, 0]
    assert [r.get("text") for r in shown["rows"]] == ["one", "two", None, "four", "one"]
    assert sorted(embedded_json(page, "sounds-data")) == ["0", "3", "4"]  # the others have none
    assert "5 problems" in page.read_text(encoding="utf-8")


def test_recordings_past_a_total_size_are_linked(tmp_path, monkeypatch):
    for i in range(6):
        write(tmp_path / "data set" / f"{i}.wav", tone(0.5 + 0.1 * i))
    rows = [{"audio_filepath": f"{i}.wav", "text": "x", "speaker": f"s{i % 2}"} for i in range(6)]
    spec = write_manifest(tmp_path / "data set" / "m.jsonl", *rows)
    monkeypatch.setattr("echo.report.sound.EMBEDDED_BYTES", 10_000)
    page = tmp_path / "pages" / "page.html"
    page.parent.mkdir()
    write_exploration(spec, page)
    sounds = embedded_json(page, "sounds-data")
    shown = embedded_json(page, "utterances-data")
    links = {i: r["link"] for i, r in enumerate(shown["rows"]) if "link" in r}
    assert shown["order"] == [0, 1, 2, 3, 4, 5]  # speakers in turn already
    assert sum(len(part) for sound in sounds.values() for part in sound) <= 10_000
    assert 0 < len(sounds) < 6
    assert {*map(int, sounds)} | {*links} == {*range(6)}
    assert not {*map(int, sounds)} & {*links}
    assert links[5] == "../data%20set/5.wav"


def test_a_part_of_a_recording_is_linked_with_its_times(tmp_path, monkeypatch):
    write(tmp_path / "a.wav", tone(3))
    row = {"audio_filepath": "a.wav", "text": "x"}
    times = {"offset": 0.5, "duration": 1.25}, {"offset": 1.5}, {}
    spec = write_manifest(tmp_path / "m.jsonl", *({**row, **each} for each in times))
    monkeypatch.setattr("echo.report.sound.EMBEDDED_BYTES", 0)
    write_exploration(spec, tmp_path / "page.html")
    rows = embedded_json(tmp_path / "page.html", "utterances-data")["rows"]
    assert [r["link"] for r in rows] == ["a.wav#t=0.5,1.75", "a.wav#t=1.5", "a.wav"]
    assert [r["seconds"] for r in rows] == [1.25, 1.5, 3]


def test_a_filters_folder_shows_what_it_kept_and_what_each_rule_rejects(tmp_path):
    spec = str(write_long(tmp_path, [(0.0, 1.0), (1.0, 3.0), (4.0, 0.25), (7.0, 0.75)]))
    Path(spec).write_text(Path(spec).read_text() + "{torn\n")
    folder, page = tmp_path / "filtered", tmp_path / "page.html"
    others_off = {"voice": False, "min_snr": None, "min_high_band": None, "max_clipped": None}
    thresholds = FilterSettings(min_seconds=0.5, max_seconds=2.0, **others_off)
    filtered = filter_source(spec, ReadOptions(), thresholds, folder)
    found = write_exploration(str(folder), page, OUTSIDE)
    survey = found.survey
    told = {
        rule: (count.rows, count.seconds / 3600, alone.seconds / 3600)
        for rule, count, alone in survey.rules()
    }
    for rule, by in filtered.by_rule().items():
        assert told.pop(rule) == pytest.approx((by["rows"], by["hours"], by["hours_alone"]))
    assert told == {"unusable": (1, 0, 0)}  # which the filter counts apart
    assert survey.rules()[0][0] == "too long"  # which rejects most
    assert survey.read.rows == len(filtered.rows)
    assert survey.rejected.rows == len(filtered.rows) - len(filtered.kept())
    rows = embedded_json(page, "utterances-data")["rows"]
    assert [r.get("rejected", False) for r in rows] == [False] * 2 + [True] * 3
    given = [[rule for rule, _ in r.get("reasons", [])] for r in rows]
    assert given == [[], [], ["too long"], ["too short"], ["unusable"]]
    assert not found.damaged  # its reason says it already
    assert f"echo-asr data apply corrections.jsonl {spec} corrected.jsonl" in page.read_text()


def test_a_rejected_row_without_a_recording_shows_its_text_and_why(tmp_path):
    write_long(tmp_path, [(0.0, 1.0)], "kept.jsonl")
    row = {"id": "a", "text": "one two", "reasons": [{"rule": "loop", "what": "repeats"}]}
    write_manifest(tmp_path / "rejected.jsonl", row)
    found = write_exploration(str(tmp_path), tmp_path / "page.html")
    shown = embedded_json(tmp_path / "page.html", "utterances-data")["rows"][1]
    assert (shown["id"], shown["text"], shown["reasons"]) == ("a", "one two", [["loop", "repeats"]])
    assert shown["flaws"] == found.damaged == []
    assert "place" not in shown  # which a correction would name


def test_the_command_says_what_it_read_and_ends_with_2_if_rows_are_damaged(
    tmp_path, monkeypatch, capsys
):
    write_long(tmp_path, [(0.0, 4.5), (1.0, 4.5)], "kept.jsonl")
    write_long(tmp_path, [(5.0, 4.5)], "rejected.jsonl")
    arguments = "data", "explore", tmp_path, "--out", tmp_path / "page.html"
    code, text, _ = run(monkeypatch, capsys, *arguments)
    assert code == 0
    assert text.startswith("3 rows, 0.00 hours, rejected 1 row, 0.00 hours, ")
    write(tmp_path / "short.wav", tone(1))
    torn = {"audio_filepath": "short.wav", "offset": 2, "duration": 1, "text": "gone"}
    kept = tmp_path / "kept.jsonl"
    kept.write_text(f"{{torn\n{json.dumps(torn)}\n{kept.read_text()}")
    code, text, _ = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert f"2 of these rows cannot be used; the first: {kept}:1: is not JSON" in text
    assert len(embedded_json(tmp_path / "page.html", "utterances-data")["rows"]) == 5


def test_a_timeline_tells_what_is_kept_rejected_and_in_no_row(tmp_path):
    kept = [(0.0, 2.0), (1.0, 3.0), (6.0, 1.0)]
    write_long(tmp_path, kept, "kept.jsonl")
    write_long(tmp_path, [(3.0, 2.0)], "rejected.jsonl")
    page = tmp_path / "page.html"
    write_exploration(str(tmp_path), page)
    [timeline] = embedded_json(tmp_path / "page.html", "timelines-data")
    assert timeline["times"] == {"kept": 5.0, "rejected": 1.0, "unlabelled": 4.0}  # of 10 s
    assert timeline["spans"] == {"kept": [[0, 4], [6, 7]], "rejected": [[3, 5]]}
    assert timeline["link"] == "long.wav"
    assert f"corrections.jsonl {tmp_path}/kept.jsonl corrected" in page.read_text()
    rows = embedded_json(tmp_path / "page.html", "utterances-data")["rows"]
    assert [r["recording"] for r in rows] == [0, 0, 0, 0]


def test_each_channel_has_a_timeline_of_its_own_that_plays_nothing(tmp_path):
    write(tmp_path / "call.wav", tone(10, channels=2))
    parts = [(0, 0.0, 2.0), (0, 3.0, 4.0), ("right", 1.0, 8.0), ("right", 9.0, 0.5)]
    rows = [
        {"audio_filepath": "call.wav", "channel": channel, "offset": at, "duration": seconds}
        for channel, at, seconds in parts
    ]
    spec = write_manifest(tmp_path / "m.jsonl", *({**each, "text": "one"} for each in rows))
    write_exploration(spec, tmp_path / "page.html")
    left, right = embedded_json(tmp_path / "page.html", "timelines-data")
    assert (left["id"], right["id"]) == ("call.wav, channel left", "call.wav, channel right")
    assert left["times"] == {"kept": 6.0, "rejected": 0.0, "unlabelled": 4.0}  # of 10 s
    assert right["spans"]["kept"] == [[1, 9.5]]
    assert left["link"] is right["link"] is None
    shown = embedded_json(tmp_path / "page.html", "utterances-data")["rows"]
    assert [r["recording"] for r in shown] == [0, 0, 1, 1]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9))), st.integers(0, 5))
def test_joined_spans_cover_what_the_spans_do_and_gaps_up_to_one(parts, gap):
    spans = [(start, start + seconds) for start, seconds in parts]
    covered = {at for start, end in spans for at in range(start, end)}
    found = joined(spans, gap)
    assert covered <= {at for start, end in found for at in range(int(start), int(end))}
    assert length(joined(spans)) == len(covered)
    assert all(later[0] - one[1] > gap for one, later in pairwise(found))


def test_of_a_large_data_set_a_sample_is_shown_that_is_always_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("echo.report.explore.MOST_ROWS", 10)
    parts = [(i / 10, 0.1) for i in range(40)]
    spec = str(write_long(tmp_path, parts, "rejected.jsonl", reasons=[{"rule": "loop"}]))
    pages = [tmp_path / name for name in ("one.html", "two.html")]
    found = [write_exploration(spec, page) for page in pages]
    tables = [embedded_json(page, "utterances-data")["rows"] for page in pages]
    assert tables[0] == tables[1]
    ids = [r["id"] for r in tables[0]]
    assert len({*ids}) == found[0].report.rows == 10
    assert sorted(ids, key=lambda id: float(id.split("@")[1].split("-")[0])) == ids
    assert "40 rows, 4.0 s: too many for a page. This is a random sample" in pages[0].read_text()
    assert (
        found[0]
        .to_text()
        .startswith(
            "read 40 rows, 0.00 hours, rejected 40 rows, 0.00 hours; in a sample of 10 rows, "
        )
    )
    # What is rejected, and the timeline, are of all rows.
    [(rule, count, _)] = found[0].survey.rules()
    assert (rule, count.rows) == ("loop", 40)
    [timeline] = embedded_json(pages[0], "timelines-data")
    assert timeline["times"]["rejected"] == pytest.approx(4.0)
    sounds = embedded_json(pages[0], "sounds-data")
    assert sorted(map(int, sounds)) == [*range(10)]


def test_figures_are_shown_if_they_are_numbers(tmp_path):
    write(tmp_path / "a.wav")
    figures = [
        {"wer": 0.25, "score": -0.5, "heard": "two"},
        {"wer": float("nan"), "score": "low", "heard": 3},
        {"wer": 10**400},
    ]
    row = {"audio_filepath": "a.wav", "text": "one"}
    spec = write_manifest(tmp_path / "m.jsonl", *({**row, **each} for each in figures))
    write_exploration(spec, tmp_path / "page.html")
    one, *others = embedded_json(tmp_path / "page.html", "utterances-data")["rows"]
    assert (one["wer"], one["score"], one["heard"]) == (0.25, -0.5, "two")
    assert all(not {"wer", "score", "heard"} & {*other} for other in others)


def test_recordings_within_a_data_set_are_embedded_alone(tmp_path):
    content = write(tmp_path / "a.wav", tone(1)).read_bytes()
    rows = [{"audio": {"bytes": content, "path": None}, "text": "hi"}]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "set"))
    page = tmp_path / "page.html"
    write_exploration(str(tmp_path / "set"), page)
    [shown] = embedded_json(page, "utterances-data")["rows"]
    assert "link" not in shown
    assert [*embedded_json(page, "sounds-data")] == ["0"]
    assert 'id="speakers"' not in page.read_text(encoding="utf-8")  # none is named


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans())))
def test_problems_come_first_and_then_every_speaker_in_turn(given_rows):
    rows = [row(speaker, ["silent"] * flawed) for speaker, flawed in given_rows]
    order = in_turn(rows)
    assert sorted(order) == [*range(len(rows))]
    flawed = [i for i, each in enumerate(rows) if each.flaws]
    assert order[: len(flawed)] == flawed
    turns, counts = [], Counter()
    for i in order[len(flawed) :]:
        turns.append(counts[rows[i].speaker])
        counts[rows[i].speaker] += 1
    assert turns == sorted(turns)
    for speaker in "abc":
        own = [i for i in order[len(flawed) :] if rows[i].speaker == speaker]
        assert own == sorted(own)


def test_the_most_doubtful_rows_come_first():
    rows = [
        row(),
        row(score=-3.0),
        row(wer=0.2, score=-9.0),
        row(wer=0.5),
        row(reasons=[Flaw("loop", "")]),
        row(rejected=True, wer=0.1),
        row(score=-1.0),
        row(flaws=["silent"], wer=0.9),
    ]
    assert in_turn(rows) == [5, 4, 7, 3, 2, 1, 6, 0]


def test_a_long_recording_leaves_room_for_others():
    rows = [row(seconds=seconds) for seconds in (4.0, 3_600.0, None, 5.0, 2.0)]
    assert [*to_embed(rows, [1, 0, 2, 3, 4], 10.0)] == [0, 3]


@given(st.lists(st.floats(0, 1e4), min_size=1))
def test_a_histogram_counts_every_value_in_round_bins(values):
    found = histogram("Duration", "s", values)
    end = found.start + found.width * len(found.counts)
    near = 1e-6 * found.width
    assert sum(found.counts) + found.beyond == len(values)
    assert found.start <= min(values) + near
    assert sum(value > end + near for value in values) <= found.beyond
    assert len(found.counts) <= BINS + 1
    assert f"{found.width:e}"[0] in "125"


def test_a_few_far_values_do_not_squeeze_the_others():
    found = histogram("Duration", "s", [*np.linspace(2, 4, 500), 3_600])
    assert (found.beyond, found.largest) == (1, 3_600)
    assert found.start + found.width * len(found.counts) < 5


@given(st.text(max_size=40))
def test_characters_are_counted_by_kind_and_what_is_not_seen_is_named(text):
    found = characters(Counter(text))
    listed = [each for kind, (known, _) in found.items() for each in known]
    assert {each.character: each.count for each in listed} == Counter(text)
    for each in listed:
        invisible = unicodedata.category(each.character)[0] in "ZC"
        assert invisible == (each.character not in each.shown) or each.shown == each.name.lower()


def test_rare_characters_of_a_large_script_are_only_counted():
    letters = [chr(0x4E00 + i) for i in range(200)]
    known, rarer = characters(Counter({letter: 200 - i for i, letter in enumerate(letters)}))[
        "Letters"
    ]
    assert [each.character for each in known] == letters[:150]
    assert rarer == 50
