"""Conversion to the layouts of other tools: what is written comes back, and is what they read."""

import json
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from echo.data.audio import AudioBytes
from echo.data.prepare.convert import convert_data
from echo.data.prepare.formats.registry import FORMATS
from echo.data.sources import ReadOptions, read_source
from echo.data.utterance import Utterance
from echo.support.errors import ConfigError, DataError, EchoError
from tests.data.recordings import tone, write, write_manifest
from tests.test_cli import run

OUTSIDE = ReadOptions(allow_outside=True)
CUTTING = ("hf", "common-voice")  # formats in which a recording is what its row is about


def told(rows: Sequence[Utterance]) -> dict[str, tuple]:
    """What a round trip keeps, by id; times in milliseconds."""
    return {
        row.id: (row.text, row.speaker, round(row.duration * 1000), round(start_of(row) * 1000))
        for row in rows
    }


def start_of(row: Utterance) -> float:
    part = row.audio.as_slice()
    return part.start if part else float(row.extra.get("recording_offset") or 0)


@pytest.fixture(scope="module")
def recordings(shared) -> list[Path]:
    data = shared / "data" / "librispeech"
    flac = sorted((data / "layout-sample").rglob("*.flac"))[:2]
    return [*flac, *sorted((data / "dev").glob("*.opus"))[:2]]


WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
TEXTS = WORDS.map(str.strip).filter(bool)
NAMES = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=8)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"id": NAMES, "text": TEXTS, "file": st.integers(0, 3), "speaker": st.none() | NAMES},
        optional={
            "offset": st.integers(0, 1500).map(lambda ms: ms / 1000),
            "duration": st.integers(50, 1000).map(lambda ms: ms / 1000),
            "language": st.sampled_from(["en", "de"]),
        },
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda row: row["id"],
)


@pytest.mark.parametrize("name", FORMATS)
@settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # to shrink takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rows=ROWS)
def test_a_round_trip_keeps_ids_texts_speakers_times_and_sound(
    name, rows, recordings, tmp_path_factory
):
    place = tmp_path_factory.mktemp("round")
    made = []
    for row in rows:
        row = {**row, "audio_filepath": str(recordings[row["file"]])}
        if "offset" not in row:  # a duration without it would be that of all of the recording
            row.pop("duration", None)
        if row["speaker"] == row["id"]:  # which is how Kaldi says that there is none
            row["speaker"] = None
        made.append(row)
    spec = write_manifest(place / "m.jsonl", *made)
    before = read_source(spec, OUTSIDE)
    done = convert_data(spec, place / "out", name, OUTSIDE)
    after = read_source(str(place / "out"), OUTSIDE)
    assert told(after) == told(before)
    assert done.left_out.rows == 0
    assert done.written == done.read
    assert done.named == (0 if name in CUTTING else len(rows))
    assert done.written.seconds == pytest.approx(sum(row.duration for row in before))
    by_id = {row.id: row for row in after}
    for row in before:
        assert by_id[row.id].language == row.language
        heard = by_id[row.id].audio.load()
        # A part that is cut out as FLAC has 16 bits, and is resampled by itself.
        torch.testing.assert_close(heard, row.audio.load(), atol=2e-5, rtol=0)


@pytest.mark.parametrize("first", FORMATS)
def test_each_format_is_a_source_of_each_other(first, recordings, tmp_path):
    spec = write_manifest(
        tmp_path / "m.jsonl",
        *(
            {
                "id": f"u{i}",
                "audio_filepath": str(path),
                "text": f"text {i}",
                "speaker": f"s{i % 2}",
            }
            for i, path in enumerate(recordings)
        ),
    )
    convert_data(spec, tmp_path / first, first, OUTSIDE)
    for second in FORMATS:
        out = tmp_path / f"{first} {second}"
        convert_data(str(tmp_path / first), out, second, OUTSIDE)
        assert told(read_source(str(out), OUTSIDE)) == told(read_source(spec, OUTSIDE))


@pytest.fixture
def parts(recordings, tmp_path) -> str:
    """Two parts of one recording, and all of another."""
    first, second = map(str, recordings[:2])
    return write_manifest(
        tmp_path / "parts.jsonl",
        {"id": "a", "audio_filepath": first, "text": "a b", "offset": 0.25, "duration": 1.5},
        {"id": "b", "audio_filepath": first, "text": "c", "offset": 1.75, "speaker": "x"},
        {"id": "c", "audio_filepath": second, "text": "d", "speaker": "y", "emotion": "calm"},
    )


def test_lhotse_reads_the_same_times_and_sound(parts, tmp_path):
    lhotse = pytest.importorskip("lhotse")
    rows = {row.id: row for row in read_source(parts, OUTSIDE)}
    convert_data(parts, tmp_path / "out", "lhotse", OUTSIDE)
    recordings = lhotse.RecordingSet.from_file(tmp_path / "out/recordings.jsonl.gz")
    supervisions = lhotse.SupervisionSet.from_file(tmp_path / "out/supervisions.jsonl.gz")
    cuts = lhotse.CutSet.from_file(tmp_path / "out/cuts.jsonl.gz")
    lhotse.validate(recordings)
    lhotse.validate(supervisions)
    lhotse.validate(cuts, read_data=True)
    lhotse.qa.validate_recordings_and_supervisions(recordings, supervisions)
    assert (len(recordings), len(supervisions), len(cuts)) == (2, 3, 3)
    again = lhotse.CutSet.from_manifests(recordings, supervisions).trim_to_supervisions()
    trimmed = {cut.supervisions[0].id: cut for cut in again}
    for cut in cuts:
        row, (supervision,) = rows[cut.id], cut.supervisions
        assert (supervision.text, supervision.speaker) == (row.text, row.speaker)
        for each in (cut, trimmed[cut.id]):
            assert each.start == pytest.approx(start_of(row), abs=1e-3)
            assert each.duration == pytest.approx(row.duration, abs=1e-3)
        np.testing.assert_allclose(cut.load_audio(), row.audio.read()[0].numpy(), atol=1e-6)
    assert {each.id: each.custom for each in supervisions}["c"] == {"emotion": "calm"}


def test_lhotse_takes_durations_that_were_rounded_up(shared, tmp_path):
    """As of these manifests, which count some samples that decoders drop."""
    lhotse = pytest.importorskip("lhotse")
    spec = str(shared / "data/librispeech/dev.jsonl")
    convert_data(spec, tmp_path / "out", "lhotse", OUTSIDE)
    cuts = lhotse.CutSet.from_file(tmp_path / "out/cuts.jsonl.gz")
    lhotse.validate(cuts.subset(first=2), read_data=True)
    expected = {row.id: row.duration for row in read_source(spec)}
    assert {cut.id: cut.duration for cut in cuts} == pytest.approx(expected, abs=1e-3)


def test_lhotse_reads_kaldis_folder(parts, tmp_path):
    pytest.importorskip("lhotse")
    from lhotse.kaldi import load_kaldi_data_dir

    convert_data(parts, tmp_path / "out", "kaldi", OUTSIDE)
    _, supervisions, _ = load_kaldi_data_dir(tmp_path / "out", sampling_rate=16_000)
    found = {s.id: (s.text, s.start, s.duration) for s in supervisions}
    for row in read_source(parts, OUTSIDE):
        text, start, duration = found[row.id]
        assert text == row.text
        assert (start, duration) == pytest.approx((start_of(row), row.duration), abs=1e-3)


def test_kaldis_files_are_sorted_and_complete(parts, tmp_path):
    convert_data(parts, tmp_path / "out", "kaldi", OUTSIDE)
    lines = {path.name: path.read_text().splitlines() for path in (tmp_path / "out").iterdir()}
    assert lines["utt2spk"] == ["a a", "b x", "c y"]
    assert lines["spk2utt"] == ["a a", "x b", "y c"]
    assert lines["text"] == ["a a b", "b c", "c d"]
    for name in ("wav.scp", "reco2dur"):
        keys = [line.split()[0].encode() for line in lines[name]]
        assert keys == sorted(keys)
        assert {line.split()[1] for line in lines["segments"]} == {key.decode() for key in keys}


def test_datasets_loads_it_with_the_parts_alone(parts, tmp_path):
    from datasets import Audio, load_from_disk

    convert_data(parts, tmp_path / "out", "hf", OUTSIDE)
    found = load_from_disk(str(tmp_path / "out"))
    assert isinstance(found.features["audio"], Audio)
    assert found["id"][:] == ["a", "b", "c"]
    assert found["emotion"][:] == [None, None, "calm"]
    rows = read_source(parts, OUTSIDE)
    assert found["duration"][:] == pytest.approx([row.duration for row in rows], abs=1e-3)
    for row, audio in zip(
        rows, found.cast_column("audio", Audio(decode=False))["audio"], strict=True
    ):
        held = AudioBytes(audio["bytes"], row.id).read()[0]
        torch.testing.assert_close(held, row.audio.read()[0], atol=1e-6, rtol=0)


def test_common_voices_folder_holds_its_clips(parts, tmp_path):
    convert_data(parts, tmp_path / "out", "common-voice", OUTSIDE)
    header, *lines = (tmp_path / "out/validated.tsv").read_text().splitlines()
    assert header.split("\t")[:3] == ["client_id", "path", "sentence"]
    for line in lines:
        assert (tmp_path / "out/clips" / line.split("\t")[1]).is_file()
    # Nothing of it lies elsewhere.
    assert len(read_source(str(tmp_path / "out"))) == 3


@pytest.mark.parametrize("name", FORMATS)
def test_recordings_in_shards_and_arrays_are_written_beside(name, tmp_path):
    """As they are, where they are encoded; moving a folder needs no more than itself."""
    datasets = pytest.importorskip("datasets")
    content = write(tmp_path / "a.mp3", tone(2)).read_bytes()
    (tmp_path / "a.json").write_text(json.dumps({"text": "in a tar"}))
    with tarfile.open(tmp_path / "m.tar", "w") as tar:
        for file in ("a.json", "a.mp3"):
            tar.add(tmp_path / file, file)
    array = {"array": tone(1)[:, 0].tolist(), "sampling_rate": 16_000}
    made = datasets.Dataset.from_list([{"audio": array, "text": "an array"}])
    made.to_parquet(tmp_path / "m.parquet")
    for spec in ("m.tar", "m.parquet"):
        out = tmp_path / f"{spec} out"
        done = convert_data(str(tmp_path / spec), out, name)
        (before,), (after,) = read_source(str(tmp_path / spec)), read_source(str(out))
        assert told([after]) == told([replace(before, id=after.id)])
        torch.testing.assert_close(after.audio.load(), before.audio.load(), atol=2e-5, rtol=0)
        assert done.named == 0
        if spec == "m.tar":
            assert after.audio.encoded() == content


def test_a_recording_in_a_shard_is_written_once_for_all_of_its_parts(tmp_path):
    datasets = pytest.importorskip("datasets")
    content = write(tmp_path / "a.wav", tone(2)).read_bytes()
    row = {"audio": {"bytes": content, "path": None}, "text": "one"}
    rows = [{**row, "start": 0.0, "end": 0.5}, {**row, "start": 0.5, "end": 2.0}]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "set")
    convert_data(str(tmp_path / "set"), tmp_path / "out", "nemo")
    (written,) = (tmp_path / "out/audio").iterdir()
    assert written.read_bytes() == content
    found = read_source(str(tmp_path / "out"))
    assert [(start_of(row), row.duration) for row in found] == [(0.0, 0.5), (0.5, 1.5)]


def test_what_a_format_cannot_hold_is_listed_once_a_column(tmp_path, monkeypatch, capsys):
    path = str(write(tmp_path / "a.wav"))
    row = {"audio_filepath": path, "text": "one", "mood": "calm", "words": [{"at": 1}]}
    spec = write_manifest(tmp_path / "m.jsonl", row, {**row, "id": "an id", "sentence": "other"})
    code, out, _ = run(
        monkeypatch, capsys, "data", "convert", spec, tmp_path / "k", "--to", "kaldi"
    )
    assert code == 0
    for column in ("mood", "words", "sentence", "id"):
        assert out.count(f"\n  {column}: ") == 1
    assert "read 2 rows, 0.00 hours; wrote 2 rows, 0.00 hours" in out
    assert {row.id for row in read_source(str(tmp_path / "k"), OUTSIDE)} >= {"an_id"}
    assert set(convert_data(spec, tmp_path / "n", "nemo").notes) == {"words", "sentence"}


def test_damaged_rows_are_left_out_and_named(tmp_path, monkeypatch, capsys, caplog):
    good = {"audio_filepath": str(write(tmp_path / "a.wav", tone(36))), "text": "one"}
    (tmp_path / "bad.wav").write_bytes(b"noise")
    spec = write_manifest(
        tmp_path / "m.jsonl",
        good,
        "{",
        {**good, "audio_filepath": "bad.wav", "duration": 72},
        {**good, "audio_filepath": "gone.wav"},
        {**good, "offset": 40, "duration": 1},
        good,
    )
    for name in FORMATS:
        out = tmp_path / name
        caplog.clear()
        code, text, _ = run(monkeypatch, capsys, "data", "convert", spec, out, "--to", name)
        assert code == 2
        assert "read 6 rows, 0.04 hours and 2 of unknown length; wrote 2 rows, 0.02 hours" in text
        assert "left out 4 rows, 0.02 hours and 2 of unknown length" in text
        for line in (2, 3, 4, 5):
            assert f"m.jsonl:{line}: " in caplog.text
        first, second = read_source(str(out), OUTSIDE)
        assert second.id != first.id  # the same recording twice


def test_nothing_is_left_where_no_row_is_good(tmp_path):
    spec = write_manifest(tmp_path / "m.jsonl", {"audio_filepath": "gone.wav", "text": "one"})
    with pytest.raises(DataError, match=r"none of its 1 rows can be written; the first is .*gone"):
        convert_data(spec, tmp_path / "out", "nemo")
    assert [path.name for path in tmp_path.iterdir()] == ["m.jsonl"]


def test_nothing_is_overwritten(tmp_path):
    spec = write_manifest(tmp_path / "m.jsonl", {"audio_filepath": "a.wav", "text": "one"})
    write(tmp_path / "a.wav")
    with pytest.raises(EchoError, match="exists, and is not an empty folder"):
        convert_data(spec, tmp_path, "csv")
    with pytest.raises(ConfigError, match="--to is 'wav', but must be one of: nemo, hf, kaldi"):
        convert_data(spec, tmp_path / "out", "wav")


@pytest.mark.parametrize("name", ["csv", "common-voice"])
def test_a_table_cannot_hold_an_empty_text(name, tmp_path, caplog):
    row = {"audio_filepath": str(write(tmp_path / "a.wav")), "text": ""}
    spec = write_manifest(tmp_path / "m.jsonl", row, {**row, "text": "two\nlines"})
    done = convert_data(spec, tmp_path / "out", name)
    assert done.left_out.rows == 1
    assert "m.jsonl:1: has an empty text" in caplog.text
    (found,) = read_source(str(tmp_path / "out"), OUTSIDE)
    assert found.text == ("two\nlines" if name == "csv" else "two lines")


def test_the_same_data_are_the_same_files(parts, tmp_path):
    for name in ("lhotse", "kaldi", "nemo"):
        first, second = tmp_path / f"{name}1", tmp_path / f"{name}2"
        convert_data(parts, first, name, OUTSIDE)
        convert_data(parts, second, name, OUTSIDE)
        for path in first.iterdir():
            assert path.read_bytes() == (second / path.name).read_bytes()
