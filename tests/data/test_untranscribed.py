"""Rows without a text, which only some commands take, and recordings in shards that rows name."""

import json

import pytest

from echo.data.sources import Columns, ReadOptions, read_source, scan_rows
from echo.support.errors import DataError
from tests.data.recordings import write, write_manifest

UNTRANSCRIBED = ReadOptions(Columns(needs_text=False))


def manifest(folder):
    rows = [{"audio_filepath": "a.wav"}, {"audio_filepath": "b.wav", "text": None}]
    return write_manifest(folder / "rows.jsonl", *rows, {"audio_filepath": "c.wav", "text": "c"})


def table(folder):
    (folder / "rows.csv").write_text("path,sentence\na.wav,\nb.wav,\nc.wav,c\n")
    return str(folder / "rows.csv")


def kaldi(folder):
    (folder / "wav.scp").write_text("".join(f"{name} {name}.wav\n" for name in "abc"))
    (folder / "text").write_text("c c\n")
    return str(folder)


def lhotse(folder):
    cuts = [
        {
            "type": "MonoCut",
            "id": name,
            "start": 0,
            "duration": 1,
            "recording": {"id": name, "sources": [{"type": "file", "source": f"{name}.wav"}]},
            "supervisions": [{"id": name, "start": 0, "duration": 1, "text": text}],
        }
        for name, text in zip("abc", (None, None, "c"), strict=True)
    ]
    return write_manifest(folder / "cuts.jsonl", *cuts)


def librispeech(folder):
    for name in "abc":
        (folder / f"{name}.wav").rename(folder / f"1-2-{name}.flac")
    (folder / "1-2.trans.txt").write_text("1-2-a\n1-2-b\n1-2-c c\n")
    return str(folder)


@pytest.mark.parametrize("kind", [manifest, table, kaldi, lhotse, librispeech])
def test_rows_may_lack_a_text_where_none_is_needed(tmp_path, monkeypatch, kind):
    for name in "abc":
        write(tmp_path / f"{name}.wav")
    spec = kind(tmp_path)
    assert [row.text for row in read_source(spec, UNTRANSCRIBED)] == ["", "", "c"]
    assert [row.has_text for row in scan_rows(spec, UNTRANSCRIBED)] == [False, False, True]
    usual = read_source(spec, ReadOptions(on_error="skip"))
    assert [row.text for row in usual] == ["c"]
    with pytest.raises(DataError, match=r"missing|empty|no text column|no line for"):
        read_source(spec)


def test_an_empty_text_is_one(tmp_path):
    """It says that nobody speaks."""
    write(tmp_path / "a.wav")
    spec = write_manifest(tmp_path / "rows.jsonl", {"audio_filepath": "a.wav", "text": ""})
    assert [row.has_text for row in scan_rows(spec, UNTRANSCRIBED)] == [True]


def test_a_column_that_is_named_must_be_there(tmp_path):
    """But not in each row of a manifest."""
    write(tmp_path / "a.wav")
    named = ReadOptions(Columns(text="said", needs_text=False))
    (tmp_path / "rows.csv").write_text("path\na.wav\n")
    with pytest.raises(DataError, match="no text column: expected 'said'"):
        read_source(str(tmp_path / "rows.csv"), named)
    spec = write_manifest(tmp_path / "rows.jsonl", {"audio_filepath": "a.wav", "text": "other"})
    assert [row.text for row in read_source(spec, named)] == [""]


def test_a_folder_of_recordings_is_a_source_without_texts(tmp_path):
    for name in ("b.wav", "sub/a.flac", ".hidden.wav"):
        write(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no recording")
    found = read_source(str(tmp_path), UNTRANSCRIBED)
    assert [row.id for row in found] == ["b.wav", "sub/a.flac"]
    with pytest.raises(DataError, match="holds no data set"):
        read_source(str(tmp_path))


def test_a_recording_outside_of_the_folder_is_refused(tmp_path):
    """Through a link."""
    write(tmp_path / "out/a.wav")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.wav").symlink_to(tmp_path / "out/a.wav")
    with pytest.raises(DataError, match="is outside of"):
        read_source(str(tmp_path / "in"), UNTRANSCRIBED)


def test_a_column_of_that_name_is_a_member_only_of_a_shard(tmp_path):
    write(tmp_path / "a.wav")
    told = {"audio_filepath": "a.wav", "text": "a", "member": "of a choir"}
    spec = write_manifest(tmp_path / "rows.jsonl", told)
    (row,) = read_source(spec)
    assert row.extra["member"] == json.loads(json.dumps(told))["member"]
    assert len(row.audio.load()) == 16_000
