"""The page of a data set says what the check says, of real recordings and of flawed ones."""

import json
import re
import unicodedata
from collections import Counter

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo.data.check import Flaw, check_source
from echo.data.sources import read_source
from echo.report.dataset import Entry, characters, in_turn, to_embed
from echo.report.explore import write_exploration
from echo.report.histogram import BINS, histogram
from tests.data.recordings import tone, write, write_manifest


def embedded_json(page, name):
    [found] = re.findall(rf'id="{name}">(.*?)</script>', page.read_text(encoding="utf-8"))
    return json.loads(found)


def row(speaker=None, flaws=(), seconds=1.0, text="one"):
    return Entry("id", text, seconds, speaker, None, [Flaw(kind, "is so") for kind in flaws])


def test_real_recordings_are_shown_as_they_are_read(shared, tmp_path):
    spec = str(shared / "data/librispeech/layout-sample")
    page = tmp_path / "page.html"
    report = write_exploration(spec, page)
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
    report = write_exploration(spec, page)
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
