"""Every kind of source gives the same utterances, and every bad row one sentence."""

import csv
import io
import json
import logging
import os
import re
import shutil
import sys
import tarfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
import soundfile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from echo.data.check import check_source
from echo.data.sources import Columns, ReadOptions, read_source, scan_source, stream_source
from echo.support.errors import DataError
from tests.data.recordings import tone, write, write_manifest

ROW = {"audio_filepath": "a.wav", "text": "hello"}


def refusal(spec: str, columns: Columns | None = None) -> str:
    """The message with which a source is refused; one line, as all are."""
    with pytest.raises(DataError) as caught:
        read_source(spec, ReadOptions(columns or Columns()))
    message = str(caught.value)
    assert "\n" not in message
    return message


# Real data


@pytest.mark.parametrize("name", ["librispeech/dev.jsonl", "speechocean762/dev.jsonl"])
def test_reads_real_manifests(shared: Path, name: str) -> None:
    path = shared / "data" / name
    utterances = read_source(str(path))
    assert len(utterances) == len(path.read_text().splitlines())
    assert len({utterance.id for utterance in utterances}) == len(utterances)
    first = utterances[0]
    assert first.speaker
    assert first.where == f"{path}:1"
    assert first.audio.load().shape[0] / 16_000 == pytest.approx(first.duration, abs=0.01)


def test_keeps_further_keys(shared: Path) -> None:
    first = read_source(str(shared / "data/speechocean762/dev.jsonl"))[0]
    assert first.extra == {"age": "6"}


def test_reads_librispeech_layout(shared: Path) -> None:
    utterances = read_source(str(shared / "data/librispeech/layout-sample"))
    first = utterances[0]
    assert len(utterances) == 12
    assert (first.id, first.speaker) == ("26-495-0000", "26")
    assert first.text.startswith("in sixteen sixty five written by a citizen")
    assert first.audio.load().shape[0] / 16_000 == pytest.approx(first.duration)


# Decoding


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg", ".opus"])
def test_decodes_every_format(tmp_path: Path, suffix: str, rate: int, channels: int) -> None:
    if (suffix, rate) == (".opus", 44_100):
        rate = 24_000  # Opus has no 44.1 kHz
    write(tmp_path / f"a{suffix}", tone(1.5, rate, channels), rate)
    spec = write_manifest(tmp_path / "m.jsonl", {**ROW, "audio_filepath": f"a{suffix}"})
    (utterance,) = read_source(spec)
    samples = utterance.audio.load()
    assert utterance.duration == pytest.approx(1.5, abs=0.01)
    assert samples.shape == pytest.approx((24_000,), abs=160)
    # The tone is still there, at its pitch and nearly as loud.
    spectrum = samples[:16_000].numpy()
    assert np.abs(np.fft.rfft(spectrum)).argmax() == 440
    assert spectrum.std() == pytest.approx(0.5 / np.sqrt(2), rel=0.1)


# Kinds of source


def test_manifest_paths_durations_and_ids(tmp_path: Path) -> None:
    inside, outside = write(tmp_path / "m/a.wav"), write(tmp_path / "b.wav")
    spec = write_manifest(
        tmp_path / "m/m.jsonl",
        {"audio_filepath": "a.wav", "text": " one ", "speaker": 7, "duration": 3, "lang": "en"},
        "",
        {"audio_filepath": str(outside), "text": "two", "id": "second"},
        {"audio_filepath": "a.wav", "text": "again"},
    )
    first, second, third = read_source(spec, ReadOptions(allow_outside=True))
    assert (first.text, first.speaker, first.duration) == ("one", "7", 3.0)
    assert (first.audio.path, first.extra) == (inside, {"lang": "en"})
    assert (second.id, second.duration, second.where) == ("second", 1.0, f"{spec}:3")
    assert second.audio.path == outside
    assert (first.id, third.id) == ("a.wav", "a.wav#2")


def test_an_empty_text_says_that_nobody_speaks(tmp_path: Path) -> None:
    """Where it is told apart from a missing one: in JSON and in tables of typed columns."""
    path = write(tmp_path / "a.wav")
    row = {"audio_filepath": "a.wav", "text": ""}
    (utterance,) = read_source(write_manifest(tmp_path / "m.jsonl", row))
    assert (utterance.text, utterance.duration) == ("", 1.0)
    rows = [{"audio": {"bytes": path.read_bytes(), "path": None}, "text": ""}]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "set"))
    assert [u.text for u in read_source(str(tmp_path / "set"))] == [""]
    write(tmp_path / "corpus/a.wav")
    (tmp_path / "corpus/1.trans.txt").write_text("a\n")
    assert refusal(str(tmp_path / "corpus")).endswith("1.trans.txt:1: 'text' is missing")


def test_a_recording_is_not_opened_where_its_duration_is_given(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"noise")
    (utterance,) = read_source(write_manifest(tmp_path / "m.jsonl", {**ROW, "duration": 2}))
    assert utterance.duration == 2.0
    with pytest.raises(DataError, match=r"a\.wav: cannot be read as audio"):
        utterance.audio.load()


def test_columns_name_other_keys(tmp_path: Path) -> None:
    write(tmp_path / "a.wav")
    spec = write_manifest(tmp_path / "m.json", {"wav": "a.wav", "said": "hi", "who": "x"})
    (utterance,) = read_source(spec, ReadOptions(Columns("wav", "said", "who")))
    assert (utterance.text, utterance.speaker, utterance.extra) == ("hi", "x", {})


def test_common_voice(tmp_path: Path) -> None:
    write(tmp_path / "clips/a.mp3")
    (tmp_path / "train.tsv").write_text(
        'client_id\tpath\tsentence\tup_votes\nc1\ta.mp3\t"A lone quote mark, a comma.\t2\n'
    )
    (utterance,) = read_source(str(tmp_path / "train.tsv"))
    assert utterance.text == '"A lone quote mark, a comma.'
    assert (utterance.speaker, utterance.extra) == ("c1", {"up_votes": "2"})
    assert utterance.audio.load().shape == (16_000,)
    (again,) = read_source(str(tmp_path))
    assert again == utterance
    (tmp_path / "clip_durations.tsv").write_text("clip\tduration[ms]\na.mp3\t1000\n")
    (tmp_path / "dev.tsv").write_text("path\tsentence\na.mp3\tone\n")
    assert "name a split; there is" in refusal(str(tmp_path))
    (dev,) = read_source(f"{tmp_path}@dev")
    assert dev.text == "one"


def test_a_table_in_a_folder_is_hinted_at(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("path\tsentence\n")
    assert "did you mean one of its files, train.tsv?" in refusal(str(tmp_path))


@pytest.mark.parametrize(
    "header", ["path,sentence", "audio_filepath,text", "file_name,transcription"]
)
def test_csv(tmp_path: Path, header: str) -> None:
    write(tmp_path / "a.wav")
    (tmp_path / "t.csv").write_text(f'\ufeff{header},duration\r\na.wav,"well, ""no""",2.5\r\n')
    (utterance,) = read_source(str(tmp_path / "t.csv"))
    assert (utterance.text, utterance.duration) == ('well, "no"', 2.5)


TEXTS = ['every "measure" pursued', "well, yes", "plain", '"all of it"', "a\ttab", '12" single']


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
def test_tables_as_programs_write_them(
    tmp_path: Path, suffix: str, delimiter: str, quoting: int
) -> None:
    write(tmp_path / "a.wav")
    path = tmp_path / f"t{suffix}"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=quoting)
        writer.writerow(["path", "sentence", "duration"])
        writer.writerows(["a.wav", text, 1.0] for text in TEXTS)
    assert [u.text for u in read_source(str(path))] == TEXTS


@pytest.mark.parametrize(
    "texts", [['"quoted"', "plain"], ['say "hi" now'], TEXTS[:4], ['"begun', 'done"']]
)
def test_quote_marks_are_text_in_a_table_without_quoting(tmp_path: Path, texts: list[str]) -> None:
    """As Common Voice writes them."""
    write(tmp_path / "a.wav")
    lines = ["path\tsentence", *(f"a.wav\t{text}" for text in texts)]
    (tmp_path / "t.tsv").write_text("\n".join(lines))
    assert [u.text for u in read_source(str(tmp_path / "t.tsv"))] == texts


@pytest.mark.parametrize("name", ["take[1]", "a*", "x{0..1}", "q?", "nüsse"])
def test_names_are_taken_literally_first(tmp_path: Path, name: str) -> None:
    """Whatever they are named that lie beside each other, and in whichever folder."""
    folder = tmp_path / f"in {name}"
    content = write(folder / f"{name}.wav").read_bytes()
    row = {"audio": {"bytes": content, "path": None}, "text": "hello"}
    data = datasets.Dataset.from_list([row])
    data.to_parquet(folder / f"{name}.parquet")
    data.save_to_disk(folder / name)
    with tarfile.open(folder / f"{name}.tar", "w") as tar:
        tar.add(folder / f"{name}.wav", "a.wav")
        (tmp_path / "a.txt").write_text("hello")
        tar.add(tmp_path / "a.txt", "a.txt")
    write_manifest(folder / f"{name}.jsonl", {**ROW, "audio_filepath": f"{name}.wav"})
    (folder / f"{name}.csv").write_text(f"path,text\n{name}.wav,hello\n")
    for suffix in (".parquet", "", ".tar", ".jsonl", ".csv"):
        (utterance,) = read_source(str(folder / f"{name}{suffix}"))
        assert (utterance.text, len(utterance.audio.load())) == ("hello", 16_000)


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("named", ["NFC", "NFD"])
def test_a_name_is_found_in_either_form_of_unicode(
    tmp_path: Path, on_disk: str, named: str
) -> None:
    write(tmp_path / unicodedata.normalize(on_disk, "nüsse/é.wav"))
    name = unicodedata.normalize(named, "nüsse/é.wav")
    (utterance,) = read_source(
        write_manifest(tmp_path / "m.jsonl", {**ROW, "audio_filepath": name})
    )
    assert utterance.duration == 1.0
    write(tmp_path / unicodedata.normalize(on_disk, "corpus/é.flac"))
    (tmp_path / "corpus/1.trans.txt").write_text(unicodedata.normalize(named, "é HELLO\n"))
    (utterance,) = read_source(str(tmp_path / "corpus"))
    assert utterance.text == "hello"


def test_audio_folder(tmp_path: Path) -> None:
    write(tmp_path / "sub/a.wav")
    write_manifest(tmp_path / "metadata.jsonl", {"file_name": "sub/a.wav", "text": "lines"})
    assert [u.text for u in read_source(str(tmp_path))] == ["lines"]
    (tmp_path / "metadata.csv").write_text("file_name,transcription\nsub/a.wav,table\n")
    assert [u.text for u in read_source(str(tmp_path))] == ["table"]


def test_librispeech_keeps_mixed_case(tmp_path: Path) -> None:
    write(tmp_path / "1/2/1-2-0.wav")
    (tmp_path / "1/2/1-2.trans.txt").write_text("1-2-0 Hello THERE\n")
    assert [u.text for u in read_source(str(tmp_path))] == ["Hello THERE"]
    (tmp_path / "1/2/1-2.trans.txt").write_text("1-2-0 HELLO\n1-2-1 GONE\n")
    assert "1-2.trans.txt:2: no recording '1-2-1.flac' in" in refusal(str(tmp_path))


def test_librispeech_follows_links(tmp_path: Path) -> None:
    write(tmp_path / "corpus/1/2/1-2-0.flac")
    (tmp_path / "corpus/1/2/1-2.trans.txt").write_text("1-2-0 HELLO\n")
    (tmp_path / "corpus/again").symlink_to(tmp_path / "corpus")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/1").symlink_to(tmp_path / "corpus/1")
    assert [u.id for u in read_source(str(tmp_path / "corpus"))] == ["1-2-0"]
    (utterance,) = read_source(str(tmp_path / "linked"), ReadOptions(allow_outside=True))
    assert utterance.id == "1-2-0"
    assert "1-2-0.flac' is outside of" in refusal(str(tmp_path / "linked"))


def test_librispeech_goes_on_after_what_is_damaged(tmp_path: Path) -> None:
    write(tmp_path / "1/2/1-2-0.flac")
    (tmp_path / "1/2/1-2.trans.txt").write_text(f"{'x' * 300} LONG\n1-2-0 HELLO\n")
    (tmp_path / "0.trans.txt").symlink_to("gone")
    unreadable, unnamed, good = scan_source(str(tmp_path))
    assert str(unreadable) == f"{tmp_path}/0.trans.txt: cannot be read (No such file or directory)"
    assert "1-2.trans.txt:1: no recording 'xxx" in str(unnamed)
    assert good.text == "hello"


def with_audio(rows: list[dict]) -> datasets.Dataset:
    """A data set whose `audio` is an Audio column, made without the library's own encoder."""
    return datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio())


def test_saved_dataset(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", tone(2.0))
    rows = [
        {"audio": {"bytes": path.read_bytes(), "path": "x.flac"}, "sentence": "a", "client_id": 5},
        {"audio": {"bytes": None, "path": str(path)}, "sentence": "b", "client_id": 6},
        {"audio": {"bytes": None, "path": "gone.flac"}, "sentence": "c", "client_id": 6},
        {"audio": {"bytes": b"noise", "path": None}, "sentence": "d", "client_id": 6},
        {"audio": None, "sentence": "e", "client_id": 6},
        {"audio": {"bytes": path.read_bytes(), "path": None}, "sentence": None, "client_id": 6},
    ]
    spec = str(tmp_path / "set")
    # Plain structs: an Audio column would make `save_to_disk` look for the missing file.
    datasets.Dataset.from_list(rows).save_to_disk(spec)
    first, second, *problems = scan_source(spec, ReadOptions(allow_outside=True))
    for utterance, text, speaker in ((first, "a", "5"), (second, "b", "6")):
        assert (utterance.text, utterance.speaker, utterance.duration) == (text, speaker, 2.0)
        assert utterance.audio.load().shape == (32_000,)
    assert [str(problem) for problem in problems] == [
        f"{spec}[2]: no recording 'gone.flac' in '.'",
        f"{spec}[3]: 'audio': cannot be read as audio (Format not recognised)",
        f"{spec}[4]: 'audio' holds no recording: neither bytes, nor a path, nor floats",
        f"{spec}[5]: 'sentence' is missing",
    ]
    assert str(list(scan_source(spec))[1]).startswith(f"{spec}[1]: the recording {str(path)!r} is")
    assert refusal(f"{spec}@train") == f"{spec}: has no splits, so leave out '@train'"
    assert "no text column: expected 'said', found 'audio', 'sentence'" in refusal(
        spec, Columns(text="said")
    )


def test_saved_splits(tmp_path: Path) -> None:
    content = write(tmp_path / "a.wav").read_bytes()
    rows = [{"audio": {"bytes": content, "path": None}, "text": "hi"}]
    spec = str(tmp_path / "set")
    datasets.DatasetDict(train=with_audio(rows), test=with_audio(rows * 2)).save_to_disk(spec)
    assert len(read_source(f"{spec}@test")) == 2
    choices = f"there is '{spec}@train', '{spec}@test'"
    assert refusal(spec) == f"{spec}: name a split; {choices}"
    assert refusal(f"{spec}@dev") == f"{spec}: no split 'dev'; {choices}"


def test_saved_samples(tmp_path: Path) -> None:
    rows = [{"audio": [0.5] * 800, "sampling_rate": 8_000, "text": "hi"}]
    spec = str(tmp_path / "set")
    datasets.Dataset.from_list(rows).save_to_disk(spec)
    (utterance,) = read_source(spec)
    assert utterance.duration == 0.1
    assert utterance.audio.load().shape == (1_600,)


@pytest.mark.parametrize("audio", [[[0.1, 0.2], [0.3]], ""])
def test_saved_cell_without_a_recording(tmp_path: Path, audio: object) -> None:
    rows = [{"audio": audio, "sampling_rate": 8_000, "text": "hi"}]
    spec = str(tmp_path / "set")
    datasets.Dataset.from_list(rows).save_to_disk(spec)
    assert refusal(spec).startswith(f"{spec}[0]: 'audio' holds no recording")


def test_damaged_saved_dataset(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text("{")
    assert refusal(str(tmp_path)).startswith(f"{tmp_path}: cannot be loaded (")
    text = pa.array([b"zw\xf6lf"]).view(pa.string())
    table = datasets.table.InMemoryTable(pa.table({"audio": [b"x"], "text": text}))
    spec = str(tmp_path / "set")
    datasets.Dataset(table).save_to_disk(spec)
    assert refusal(spec).startswith(f"{spec}: cannot be read (")


def test_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = write(tmp_path / "a.wav").read_bytes()
    asked = []

    def load_dataset(name: str, config: str | None, split: str) -> datasets.Dataset:
        asked.append((name, config, split))
        if name == "org/gone":
            raise ConnectionError("no network\nCheck it.")
        return with_audio([{"audio": {"bytes": content, "path": None}, "text": "hi"}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda *_: ["train", "test"])
    (utterance,) = read_source("org/name:en-GB@train[:1%]")
    assert utterance.where == "org/name@train[:1%][0]"
    assert asked == [("org/name", "en-GB", "train[:1%]")]
    assert refusal("org/name").startswith("org/name: name a split; there is 'org/name@train'")
    assert refusal("org/gone@test") == (
        "org/gone: is no file or folder here, and cannot be loaded from the hub (no network)"
    )


def test_a_hub_data_set_is_streamed_only_where_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = write(tmp_path / "a.wav").read_bytes()
    rows = [{"audio": {"bytes": content, "path": None}, "text": text} for text in "abc"]
    asked = []

    def load_dataset(name: str, config: str | None, split: str, streaming: bool = False) -> object:
        asked.append(streaming)
        whole = with_audio(rows)
        return whole.to_iterable_dataset(num_shards=2) if streaming else whole

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert stream_source("org/name@train") is None
    held = read_source("org/name@train")
    assert asked == [False]
    shards = stream_source("org/name@train", ReadOptions(streaming=True))
    assert asked == [False, True]
    assert len(shards) == 2
    for _ in range(2):  # each time anew
        streamed = [utterance for shard in shards for utterance in shard]
        assert [u.text for u in streamed] == [u.text for u in held] == [*"abc"]
        assert [u.where for u in streamed][-1] == "org/name@train[1][0]"
    scanned = scan_source("org/name@train", ReadOptions(streaming=True))
    assert [u.audio.load().tolist() for u in scanned] == [u.audio.load().tolist() for u in held]
    assert asked == [False, True, True]


# Where recordings may lie


def test_recordings_stay_in_the_folder_unless_allowed(tmp_path: Path) -> None:
    outside, inside = write(tmp_path / "b.wav"), write(tmp_path / "data/a.wav")
    folder = inside.parent
    (folder / "link.wav").symlink_to(outside)
    (folder / "copy.wav").symlink_to(inside)
    (folder / "up").symlink_to(tmp_path)
    (tmp_path / "mine").symlink_to(folder)  # the user's own link to where the data are
    leaving = [str(outside), "../b.wav", "link.wav", "up/b.wav", "../mine/../b.wav"]
    staying = ["a.wav", str(inside), "../data/a.wav", "copy.wav", "up/data/a.wav", "../mine/a.wav"]
    names = leaving + staying
    write_manifest(folder / "m.jsonl", *({"audio_filepath": name, "text": "x"} for name in names))
    (folder / "t.csv").write_text("path,text\n" + "".join(f"{name},x\n" for name in names))
    for path in (folder, tmp_path / "mine"):
        for spec, first_line in ((str(path / "m.jsonl"), 1), (str(path / "t.csv"), 2)):
            rows = list(scan_source(spec))
            for line, (name, row) in enumerate(zip(names, rows, strict=True), first_line):
                if name in staying:
                    assert row.audio.load().shape == (16_000,)
                else:
                    assert str(row).startswith(f"{spec}:{line}: the recording '")
                    assert "data.allow_outside=true, or give --allow-outside" in str(row)
            allowed = read_source(spec, ReadOptions(allow_outside=True))
            assert [utterance.audio.load().shape for utterance in allowed] == [(16_000,)] * 11


def test_a_durations_column_does_not_hide_where_a_saved_recording_lies(tmp_path: Path) -> None:
    outside = write(tmp_path / "a.wav")
    rows = [{"audio": str(outside), "text": "hi", "duration": 1.0}]
    spec = str(tmp_path / "set")
    datasets.Dataset.from_list(rows).save_to_disk(spec)
    (utterance,) = read_source(spec)
    with pytest.raises(DataError, match="is outside of"):
        utterance.audio.load()
    (utterance,) = read_source(spec, ReadOptions(allow_outside=True))
    assert utterance.audio.load().shape == (16_000,)


# Bad input


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{oops", "is not JSON (Expecting property name enclosed in double quotes at column 2)"),
        ('{"text": 1', "is not JSON (Expecting ',' delimiter at column 11)"),
        ("[1, 2]", "is not a JSON object: [1, 2]"),
        ("[" * 100_000, "is not JSON ("),
        ({"text": "x"}, "no audio column: expected 'audio_filepath' or 'audio' or"),
        ({"audio_filepath": "a.wav"}, "no text column: expected 'text' or"),
        ({**ROW, "text": 3}, "'text' must be a string, not 3"),
        ({**ROW, "text": " \t"}, "'text' is blank: if nobody speaks, it must be the empty"),
        ({**ROW, "text": None}, "'text' is missing"),
        ({**ROW, "text": "\ud800"}, "'text' is not valid Unicode"),
        ({**ROW, "text": "a\0b"}, "'text' holds a NUL character: 'a\\x00b'"),
        ('{"audio_filepath": "a.wav", "text": "x", "text": "y"}', "has 'text' twice"),
        (dict.fromkeys("x" * i for i in range(1, 5_000)), ", 'xx', 'xxx',"),
        ({**ROW, "audio_filepath": ["a.wav"]}, "'audio_filepath' must be a path, not ['a.wav']"),
        ({**ROW, "audio_filepath": "b.wav"}, "no recording 'b.wav' in"),
        ({**ROW, "audio_filepath": "a\0.wav"}, "no recording 'a\\x00.wav' in"),
        ({**ROW, "audio_filepath": "x" * 5_000}, "no recording 'xxx"),
        ({**ROW, "audio_filepath": "folder"}, "no recording 'folder' in"),
        ({**ROW, "audio_filepath": "zero.wav", "duration": 1}, "zero.wav' is empty"),
        ({**ROW, "audio_filepath": "header.wav"}, "header.wav: the recording is empty"),
        ({**ROW, "audio_filepath": "noise.wav"}, "noise.wav: cannot be read as audio (Format"),
        ({**ROW, "audio_filepath": "samples.raw"}, "samples.raw: cannot be read as audio ("),
        ({**ROW, "duration": "2"}, "'duration' must be a number of seconds, not '2'"),
        ({**ROW, "duration": -1}, "'duration' must be a number of seconds, not -1"),
        ({**ROW, "duration": float("nan")}, "'duration' must be a number of seconds, not nan"),
        ({**ROW, "duration": True}, "'duration' must be a number of seconds, not True"),
        ({**ROW, "speaker": {}}, "'speaker' must be a string or a whole number, not {}"),
        ({**ROW, "speaker": "\ud800"}, "'speaker' is not valid Unicode"),
        (
            {**ROW, "offset": 1.5},
            "a.wav from 1.5 s: lies past the end of the recording, which lasts 1.0",
        ),
        ({**ROW, "offset": "1.5"}, "'offset' must be a number of seconds, not '1.5'"),
        ({**ROW, "start": -0.1}, "'start' must be a number of seconds, not -0.1"),
        ({**ROW, "start": True, "end": 1}, "'start' must be a number of seconds, not True"),
        ({**ROW, "end": "00:00:01"}, "'end' must be a number of seconds, not '00:00:01'"),
        ({**ROW, "start": 0.5, "end": 0.5}, "'end' must be after the start, 0.5 s, not 0.5 s"),
        ({**ROW, "offset": 0, "start": 0.5}, "'offset' and 'start' must be the same"),
        (
            {**ROW, "start": 0.1, "end": 0.5, "duration": 1},
            "'duration' is 1 s, but the part that the row means lasts 0.4 s",
        ),
        (
            {**ROW, "begin_time": 7.0, "end_time": 9.5},
            "lasts 1.00 s, so it is neither what lies from 'begin_time' to 'end_time' nor holds it",
        ),
    ],
)
def test_bad_manifest_line(tmp_path: Path, row: object, message: str) -> None:
    write(tmp_path / "a.wav")
    write(tmp_path / "header.wav", tone(0))
    (tmp_path / "folder").mkdir()
    (tmp_path / "zero.wav").touch()
    for name in ("noise.wav", "samples.raw"):
        (tmp_path / name).write_bytes(b"noise")
    spec = write_manifest(tmp_path / "m.jsonl", ROW, row)
    assert refusal(spec).startswith(f"{spec}:2: ")
    assert message in refusal(spec)
    assert len(refusal(spec)) < 2_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ":1: no audio column: expected 'audio_filepath' or"),
        ("path,words\na.wav,hi\n", ":1: no text column: expected 'text' or 'sentence' or"),
        ("path,text\n", ": holds no utterances"),
        ("path,text\na.wav,hi\na.wav\n", ":3: has 1 columns, but the header 2"),
        (
            'path,text\na.wav,"hi\na.wav,ho\n',
            ":2: is not CSV (unexpected end of data), up to line 3",
        ),
        ("path,text,text\na.wav,hi,ho\n", ":1: has the column 'text' twice"),
        ("path,text,offset\na.wav,hi,1.5\n", ":2: {folder}/a.wav from 1.5 s: lies past the end of"),
        ("path,text,start\na.wav,hi,0:01\n", ":2: 'start' must be a number of seconds, not '0:01'"),
        ("path,text,duration\na.wav,hi,long\n", ":2: 'duration' must be a number of seconds, not"),
        ("path,text\na.wav,\n", ":2: 'text' is empty, which in a table may also mean that it is"),
    ],
)
def test_bad_csv(tmp_path: Path, content: str, message: str) -> None:
    write(tmp_path / "a.wav")
    path = tmp_path / "t.csv"
    path.write_text(content)
    assert refusal(str(path)).startswith(f"{path}{message.format(folder=tmp_path)}")


# Parts of recordings

RISING = np.linspace(-1, 1, 32_000)[:, None].round(4)  # two seconds, of which every moment differs
PARTS = [  # and the samples that each means
    ({"offset": 0, "duration": 0.5}, slice(0, 8_000)),
    ({"offset": 0.25, "duration": 0.5}, slice(4_000, 12_000)),
    ({"offset": 1.5}, slice(24_000, None)),
    ({"start": 0.25, "end": 0.75}, slice(4_000, 12_000)),
    ({"start": 0.25, "end": 0.75, "duration": 0.5}, slice(4_000, 12_000)),
    ({"offset": 0.25, "start": 0.25, "end": 0.75}, slice(4_000, 12_000)),
    ({"start": 0.25, "duration": 0.5}, slice(4_000, 12_000)),
    ({"end": 0.75}, slice(0, 12_000)),
    ({"begin_time": 0.25, "end_time": 0.75}, slice(4_000, 12_000)),
    ({"start_time": 0.25, "end_time": 0.75, "duration": 0.5}, slice(4_000, 12_000)),
    # As in Multilingual LibriSpeech: where in a book this file was cut out.
    ({"begin_time": 417.0, "end_time": 419.01}, slice(None)),
    ({"begin_time": 0.01, "end_time": 2.0, "duration": 2.0}, slice(None)),
    ({"begin_time": 417.0}, slice(None)),
    ({"offset": 0.0}, slice(None)),
    ({"offset": None, "start": None, "end": None}, slice(None)),
]


def sources_of(folder: Path, row: dict) -> Iterator[str]:
    """Yields a source of each kind that can hold one row and its recording."""
    write(folder / "a.wav", RISING)
    yield write_manifest(folder / "m.jsonl", {**ROW, **row})
    table = {"file_name": "a.wav", "text": "hello"} | row
    cells = ["" if cell is None else str(cell) for cell in table.values()]
    for name, mark in (("metadata.csv", ","), ("t.tsv", "\t")):
        (folder / name).write_text(f"{mark.join(table)}\n{mark.join(cells)}\n")
        yield str(folder if name == "metadata.csv" else folder / name)
    content = (folder / "a.wav").read_bytes()
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name, each in (
            (".json", json.dumps({"text": "hello", **row}).encode()),
            (".wav", content),
        ):
            info = tarfile.TarInfo(f"a{name}")
            info.size = len(each)
            tar.addfile(info, io.BytesIO(each))
    yield str(folder / "a.tar")
    for place, audio in enumerate(("a.wav", {"bytes": content, "path": "a.wav"})):
        dataset = datasets.Dataset.from_list([{"audio": audio, "text": "hello", **row}])
        dataset.to_parquet(folder / f"{place}.parquet")
        yield str(folder / f"{place}.parquet")
        if place:
            dataset.save_to_disk(str(folder / "saved"))
            yield str(folder / "saved")


@pytest.mark.parametrize(("row", "samples"), PARTS)
def test_a_row_that_means_a_part_hears_the_part(tmp_path: Path, row: dict, samples: slice) -> None:
    """In every kind of source."""
    expected = np.float32(np.round(RISING * 32_768).clip(-32_768, 32_767) / 32_768)[samples, 0]
    kinds = 0
    for spec in sources_of(tmp_path, row):
        (found,) = read_source(spec)
        assert np.abs(found.audio.load().numpy() - expected).max() <= 2**-15
        assert found.duration == pytest.approx(len(expected) / 16_000, abs=0.011)
        assert not {"offset", "start", "end"} & {*found.extra}
        kinds += 1
    assert kinds == 7


def test_ids_of_parts_say_which_and_of_which_recording(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", RISING)
    rows = [
        {**ROW, "offset": 0, "duration": 0.5},
        {**ROW, "offset": 0.12345, "duration": 0.5},
        {**ROW, "offset": 1.25},
        {**ROW, "offset": 1, "duration": 0.5, "id": "mine", "recording": "call"},
        ROW,
    ]
    found = read_source(write_manifest(tmp_path / "m.jsonl", *rows))
    assert [u.id for u in found] == [
        "a.wav@0-0.5",
        "a.wav@0.123-0.623",
        "a.wav@1.25-",
        "mine",
        "a.wav",
    ]
    assert [u.extra.get("recording") for u in found] == ["a.wav"] * 3 + ["call", None]


def test_a_long_manifest_of_parts_opens_no_recording(tmp_path: Path) -> None:
    """So what lies past the end is found when it is read, and named by its row."""
    write(tmp_path / "a.wav")
    spec = write_manifest(tmp_path / "m.jsonl", {**ROW, "offset": 0.5, "duration": 2})
    (utterance,) = read_source(spec)
    assert utterance.duration == 2
    with pytest.raises(DataError, match=r"a.wav from 0.5 s to 2.5 s: lies past .* 1.000 s"):
        utterance.audio.load()
    assert list(check_source(spec).problems) == ["unreadable recordings"]


def test_no_source(tmp_path: Path) -> None:
    assert refusal(str(tmp_path / "m.jsonl")).endswith("m.jsonl: no such file or folder")
    assert refusal("data/m.jsonl") == "data/m.jsonl: no such file or folder"
    nothing = refusal(str(tmp_path))
    assert "holds no data set: no " in nothing
    for mark in ("metadata.csv", "metadata.jsonl", "shards.jsonl", "*.trans.txt", "dataset_info"):
        assert mark in nothing
    assert "is not a kind of file that holds a data set" in refusal(str(write(tmp_path / "a.wav")))
    assert refusal(write_manifest(tmp_path / "m.json", "")).endswith("holds no utterances")
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "ol\xe9"}')
    assert refusal(str(tmp_path / "latin.jsonl")).endswith("latin.jsonl:1: is not UTF-8 text")
    assert refusal("x" * 300).endswith(": cannot be read (File name too long)")


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        (
            "m.jsonl",
            [
                '{"audio_filepath": "a.wav", "text": "one"}',
                '{"audio_filepath": "a.wav", "text": "zw\xf6lf"}',
                '{"audio_filepath": "a.wav", "text": "two"}',
            ],
            ":2: is not UTF-8 text",
        ),
        (
            "t.csv",
            ["path,text", "a.wav,one", "a.wav,zw\xf6lf", "a.wav,two"],
            ":3: is not UTF-8 text",
        ),
        ("1.trans.txt", ["a one", "a zw\xf6lf", "a two"], ":2: 'text' is not valid Unicode"),
    ],
)
def test_a_line_in_another_encoding_is_one_bad_row(
    tmp_path: Path, name: str, lines: list[str], message: str
) -> None:
    write(tmp_path / "a.wav")
    path = tmp_path / name
    path.write_bytes("\n".join(lines).encode("latin-1"))
    spec = str(tmp_path if name.endswith(".txt") else path)
    first, bad, second = scan_source(spec)
    assert (first.text, second.text) == ("one", "two")
    assert str(bad).startswith(f"{path}{message}")


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode elsewhere")
def test_file_name_that_is_not_unicode(tmp_path: Path) -> None:
    shutil.copy(write(tmp_path / "a.wav"), tmp_path / "\udcff.wav")
    spec = write_manifest(tmp_path / "m.jsonl", {**ROW, "audio_filepath": "\udcff.wav", "id": "x"})
    assert "'audio_filepath' is not valid Unicode" in refusal(spec)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode elsewhere")
def test_a_folder_that_is_not_unicode_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "\udcff"
    folder.mkdir()
    samples, _ = soundfile.read(write(tmp_path / "a.wav"), dtype="float32")
    shutil.copy(tmp_path / "a.wav", folder)
    spec = write_manifest(folder / "m.jsonl", {**ROW, "audio_filepath": "a.wav"})
    [utterance] = read_source(spec)
    np.testing.assert_array_equal(utterance.audio.load(), samples)


def test_ids_are_unique_whatever_they_are(tmp_path: Path) -> None:
    write(tmp_path / "a.wav")
    rows = [{**ROW, "id": name} for name in ("x#2", "x", "x", "x#2")]
    ids = {utterance.id for utterance in read_source(write_manifest(tmp_path / "m.jsonl", *rows))}
    assert len(ids) == 4


def test_one_column_cannot_be_two(tmp_path: Path) -> None:
    message = "'text' cannot be both the audio and the text column"
    assert message in refusal(write_manifest(tmp_path / "m.jsonl", ROW), Columns("text", "text"))
    datasets.Dataset.from_list([ROW]).save_to_disk(str(tmp_path / "set"))
    assert message in refusal(str(tmp_path / "set"), Columns("text", "text"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.touch(mode=0o000)
    assert refusal(str(path)) == f"{path}: cannot be read (Permission denied)"


def test_skipping(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "a.wav")
    spec = write_manifest(tmp_path / "m.jsonl", *[{}] * 25, ROW)
    with caplog.at_level(logging.WARNING):
        assert len(read_source(spec, ReadOptions(on_error="skip"))) == 1
    assert len(caplog.messages) == 21
    assert caplog.messages[0].startswith(f"skipped: {spec}:1: no audio column")
    assert caplog.messages[-1] == f"{spec}: skipped 25 of 26 rows"
    spec = write_manifest(tmp_path / "m.jsonl", {}, {})
    with pytest.raises(DataError, match=f"none of its 2 rows can be used.*{re.escape(spec)}:1"):
        read_source(spec, ReadOptions(on_error="skip"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
records = st.fixed_dictionaries(
    {},
    optional={
        "audio_filepath": st.just("a.wav") | json_values,
        "text": st.just("hello") | json_values,
        "duration": json_values,
        "speaker": json_values,
        "offset": json_values,
        "start": json_values,
        "end": json_values,
        "begin_time": json_values,
        "end_time": json_values,
        "id": json_values,
    },
)


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example(b"[" * 50_000)
@example(b'{"duration": ' + b"9" * 5_000 + b"}")
@example(b'{"audio_filepath": "a.wav", "text": "x", "duration": 1e999}')
@given(line=st.binary() | st.text().map(str.encode) | records)
def test_any_line_is_an_utterance_or_a_data_error(tmp_path: Path, line: bytes | dict) -> None:
    path = tmp_path / "m.jsonl"
    if isinstance(line, dict):
        write_manifest(path, line)
    else:
        path.write_bytes(line)
    if not (tmp_path / "a.wav").exists():
        soundfile.write(tmp_path / "a.wav", tone(0.1), 16_000)
    try:
        rows = list(scan_source(str(path)))
    except DataError:
        return
    for row in rows:
        if isinstance(row, DataError):
            str(row).encode()  # can be printed
        else:
            assert row.text
            assert row.duration > 0
