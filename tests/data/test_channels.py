"""Rows that mean one channel of a recording."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from echo.data.audio import AudioChannel, AudioFile, AudioSlice
from echo.data.cache import AudioCache
from echo.data.fingerprint import describe
from echo.data.packing import groups
from echo.data.prepare.convert import convert_data
from echo.data.prepare.filter.filter import filter_source
from echo.data.prepare.filter.rules import FilterSettings
from echo.data.prepare.formats.registry import FORMATS
from echo.data.prepare.shard import write_shards
from echo.data.prepare.split import read_size, split_source
from echo.data.sources import ReadOptions, read_source, scan_source
from echo.data.utterance import Utterance
from echo.report.sound import link
from echo.support.errors import DataError
from tests.data.recordings import write, write_manifest

OUTSIDE = ReadOptions(allow_outside=True)


@pytest.fixture(scope="module")
def speakers(shared: Path) -> np.ndarray:
    """(2, samples) at 16 kHz of two speakers."""
    rows = read_source(str(shared / "data/librispeech/dev.jsonl"))
    heard = [row.audio.load().numpy() for row in (rows[0], rows[-1])]
    size = min(map(len, heard))
    return np.stack([each[:size] for each in heard])


@pytest.fixture
def call(speakers: np.ndarray, tmp_path: Path) -> Path:
    return write(tmp_path / "call.flac", speakers.T)


def rows_of(call: Path) -> list[dict]:
    row = {"audio_filepath": call.name, "text": "a"}
    return [
        {**row, "channel": "left", "speaker": "anna"},
        {**row, "channel": 1, "speaker": "ben", "text": "b"},
        {**row, "channel": "right", "offset": 0.5, "duration": 1.0, "text": "c"},
    ]


@pytest.fixture
def manifest(call: Path) -> str:
    return write_manifest(call.parent / "m.jsonl", *rows_of(call))


def heard(rows: list[Utterance]) -> dict[str, torch.Tensor]:
    return {row.id: row.audio.load() for row in rows}


def test_a_row_may_mean_one_channel(manifest: str, call: Path, speakers: np.ndarray) -> None:
    left, right, part = rows = read_source(manifest)
    ids = ["call.flac@left", "call.flac@right", "call.flac@right@0.5-1.5"]
    assert [row.id for row in rows] == ids
    sound = AudioFile(call).read()[0]
    assert torch.equal(left.audio.load(), sound[0])
    assert torch.equal(right.audio.load(), sound[1])
    assert torch.equal(part.audio.load(), sound[1, 8_000:24_000])
    assert right.duration == pytest.approx(speakers.shape[1] / 16_000)
    assert {row.extra["recording"] for row in rows} == {"call.flac"}
    assert describe([left])["fingerprint"] != describe([right])["fingerprint"]
    assert link(left.audio, call.parent / "page.html") is None  # a browser would play both


@pytest.mark.parametrize("spelling", ["1", 1, 1.0, "Right", "right"])
def test_a_channel_is_named_or_numbered(manifest: str, call: Path, spelling: object) -> None:
    row = {**rows_of(call)[0], "channel": spelling}
    (found,) = read_source(write_manifest(call.parent / "one.jsonl", row))
    assert found.audio == AudioChannel(AudioFile(call), 1)


@pytest.mark.parametrize("told", ["middle", "9" * 5000, -1, 64, True, 0.5, [0]])
def test_any_other_value_is_an_error_of_the_row(call: Path, told: object) -> None:
    rows = [{**rows_of(call)[0], "channel": told}, {**rows_of(call)[0], "channel": None}]
    bad, good = scan_source(write_manifest(call.parent / "m.jsonl", *rows))
    assert "m.jsonl:1: 'channel' must be left, right, or the number" in str(bad)
    assert isinstance(good, Utterance)
    assert good.audio == AudioFile(call)


def test_a_channel_that_is_not_there_is_one_sentence(manifest: str, call: Path) -> None:
    for audio in (
        AudioChannel(AudioFile(call), 2),
        AudioSlice(AudioChannel(AudioFile(call), 2), 1),
    ):
        with pytest.raises(
            DataError, match=r"call\.flac: has 2 channels, so there is no channel 2 "
        ):
            audio.load()


def test_a_cache_keeps_channels_apart(manifest: str, tmp_path: Path) -> None:
    rows = read_source(manifest)
    cache = AudioCache(tmp_path / "cache", 2**30)
    for _ in range(2):
        found = heard(cache.over(rows))
        assert all(torch.equal(sound, found[id]) for id, sound in heard(rows).items())
    assert [row.audio.only_channel() for row in cache.over(rows)] == [0, 1, 1]
    assert {row.audio.whole() for row in cache.over(rows)} == {rows[0].audio.whole()}


def test_windows_do_not_mix_channels(manifest: str) -> None:
    rows = read_source(manifest)
    assert sorted(len(group) for group in groups(rows)) == [1, 1, 1]


@pytest.mark.parametrize("name", FORMATS)
def test_converted_it_is_the_same_sound(name: str, manifest: str, tmp_path: Path) -> None:
    """Kept as a channel, or cut out."""
    done = convert_data(manifest, tmp_path / "out", name)
    found = read_source(str(tmp_path / "out"), OUTSIDE)
    expected = heard(read_source(manifest))
    assert heard(found).keys() == expected.keys()
    for id, sound in heard(found).items():
        torch.testing.assert_close(sound, expected[id], rtol=0, atol=2**-15)
    cut = name in ("hf", "common-voice")
    assert {row.audio.only_channel() for row in found} == ({None} if cut else {0, 1})
    if cut:
        assert {str(row.extra["recording_channel"]) for row in found} == {"left", "right"}
    assert ("channel" in done.notes) == (name in ("nemo", "hf", "common-voice"))


def test_a_channel_that_is_not_there_is_left_out(call: Path, tmp_path: Path) -> None:
    rows = [*rows_of(call), {**rows_of(call)[0], "channel": 5}]
    done = convert_data(write_manifest(call.parent / "m.jsonl", *rows), tmp_path / "out", "nemo")
    assert (done.written.rows, done.left_out.rows) == (3, 1)


def test_lhotse_hears_the_same_channel(manifest: str, tmp_path: Path) -> None:
    lhotse = pytest.importorskip("lhotse")
    convert_data(manifest, tmp_path / "out", "lhotse")
    expected = heard(read_source(manifest))
    for cut in lhotse.CutSet.from_file(tmp_path / "out/cuts.jsonl.gz"):
        samples = torch.from_numpy(cut.load_audio())
        torch.testing.assert_close(samples, expected[cut.id][None], rtol=0, atol=2**-15)


def test_shards_hold_the_channel_alone(manifest: str, tmp_path: Path) -> None:
    rows = read_source(manifest)
    write_shards(rows, tmp_path / "out")
    found = read_source(str(tmp_path / "out"))
    assert all(torch.equal(sound, heard(rows)[id]) for id, sound in heard(found).items())
    assert [row.extra["recording_channel"] for row in found] == ["left", "right", "right"]


def test_filtered_rows_mean_the_same_channel(manifest: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    filter_source(manifest, OUTSIDE, FilterSettings(), out)
    lines = [json.loads(line) for line in (out / "kept.jsonl").read_text().splitlines()]
    lines += [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("reasons", None)
    found = read_source(write_manifest(out / "all.jsonl", *lines), OUTSIDE)
    expected = heard(read_source(manifest))
    assert all(torch.equal(sound, expected[id]) for id, sound in heard(found).items())
    assert len(found) == 3


def test_both_channels_are_on_one_side_of_a_split(call: Path, tmp_path: Path) -> None:
    other = write(call.parent / "other.flac")
    rows = [*rows_of(call), {"audio_filepath": other.name, "text": "d"}]
    manifest = write_manifest(call.parent / "m.jsonl", *rows)
    split_source(manifest, tmp_path / "out", {"dev": read_size("10%", "--dev")}, ["recording"])
    sides = [read_source(str(tmp_path / f"out/{side}.jsonl"), OUTSIDE) for side in ("train", "dev")]
    assert sorted(map(len, sides)) == [1, 3]
    assert {row.audio.only_channel() for row in max(sides, key=len)} == {0, 1}
