"""Tar shards: what is written comes back, and what is wrong with one is named."""

import io
import json
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from echo.data.audio import AudioFile
from echo.data.prepare import shard
from echo.data.prepare.shard import encode, write_shards
from echo.data.sound_file import header_duration
from echo.data.sources import Columns, ReadOptions, read_source, scan_source
from echo.data.sources.row import utterances
from echo.data.sources.tar import read_tar
from echo.data.utterance import Utterance
from echo.support.errors import DataError, EchoError
from tests.data.recordings import tone, write, write_manifest


def utterance(path, **changes):
    values = {"id": path.stem, "text": "one", "duration": 1.0, "where": str(path), **changes}
    return Utterance(audio=AudioFile(path), **values)


def test_flac_shards_hold_the_same_utterances(shared, tmp_path):
    """Of real recordings: every sample, in shards no larger than asked for, as other tools read."""
    rows = read_source(str(shared / "data" / "librispeech" / "layout-sample"))
    entries = write_shards(rows, tmp_path / "out", "flac", 5, 40).entries
    assert len(entries) > 1
    assert all(entry.utterances <= 5 and entry.seconds <= 40 for entry in entries)
    found = read_source(str(tmp_path / "out"))
    assert [(u.id, u.text, u.speaker) for u in found] == [(u.id, u.text, u.speaker) for u in rows]
    for old, new in zip(rows, found, strict=True):
        assert torch.equal(old.audio.load(), new.audio.load())
        assert new.duration == old.duration
    pattern = tmp_path / "out" / f"shard-{{000000..{len(entries) - 1:06d}}}.tar"
    assert [u.id for u in read_source(str(pattern))] == [u.id for u in rows]
    with tarfile.open(tmp_path / "out" / entries[0].shard) as tar:
        names = tar.getnames()
    assert names[0].removesuffix(".json") == names[1].removesuffix(".flac")
    assert not any("/" in name or name.count(".") != 1 for name in names)


@pytest.mark.parametrize(("subtype", "kept"), [("PCM_16", "PCM_16"), ("PCM_24", "PCM_24")])
def test_flac_keeps_integers_at_full_scale(tmp_path, subtype, kept):
    """At any rate and channel count; other ways of scaling would move the loudest samples."""
    loud = torch.linspace(-1, 1 - 2**-15, 500).double().mul(2**15).round() / 2**15
    if subtype == "PCM_24":
        loud[::2] += 2**-23
    path = tmp_path / "a.wav"
    samples = torch.stack([loud, loud.flip(0)], 1)
    integers = (samples * 2**31).clamp(-(2**31), 2**31 - 1).numpy().astype("int32")
    soundfile.write(path, integers, 44_100, subtype)
    write_shards([utterance(path)], tmp_path / "out")
    (found,) = read_source(str(tmp_path / "out"))
    new, rate = found.audio.read()
    assert rate == 44_100
    assert torch.equal(new, AudioFile(path).read()[0])
    assert soundfile.info(io.BytesIO(found.audio.encoded())).subtype == kept


def test_opus_stays_as_it_is_and_others_become_it(shared, tmp_path):
    rows = [*read_source(str(shared / "data" / "librispeech" / "dev.jsonl"))[:2]]
    rows += [utterance(write(tmp_path / "long.wav", tone(5, rate=22_050), rate=22_050))]
    write_shards(rows, tmp_path / "out", "opus")
    found = read_source(str(tmp_path / "out"))
    for old, new in zip(rows[:2], found[:2], strict=True):
        assert new.audio.encoded() == old.audio.path.read_bytes()
    last = found[2].audio.load()
    assert len(last) == pytest.approx(80_000, abs=400)
    assert last.square().mean() == pytest.approx(0.125, rel=0.1)


@pytest.mark.parametrize("suffix", [".flac", ".wav"])
def test_of_a_part_the_part_alone_is_written(tmp_path, suffix):
    """Which is then a recording of its own."""
    samples = np.linspace(-0.9, 0.9, 32_000)[:, None]
    path = write(tmp_path / f"a{suffix}", samples, 16_000)
    row = {"audio_filepath": path.name, "text": "one"}
    times = {"offset": 0.5, "duration": 0.25}, {"begin_time": 1, "end_time": 1.5}, {"start": 1.5}
    rows = read_source(write_manifest(tmp_path / "m.jsonl", *({**row, **each} for each in times)))
    write_shards(rows, tmp_path / "out")
    found = read_source(str(tmp_path / "out"))
    for part, written in zip(rows, found, strict=True):
        assert torch.equal(part.audio.load(), written.audio.load())
        assert written.audio.seconds() == written.duration == part.duration
        assert written.id == part.id
        assert written.extra["recording"] == path.name
    assert [u.extra["recording_offset"] for u in found] == [0.5, 1.0, 1.5]


def test_keys_are_safe_and_ids_come_back(tmp_path):
    path = write(tmp_path / "a.wav")
    names = ["../../etc/passwd", "/abs.olute", "a/b c.wav", "ü", "../../etc/passwd"]
    rows = [utterance(path, id=name, extra={"accent": "x", "odd": [1]}) for name in names]
    write_shards(rows, tmp_path / "out")
    found = list(scan_source(str(tmp_path / "out")))
    assert [row.id for row in found] == names
    assert found[0].extra == {"accent": "x"}
    with tarfile.open(tmp_path / "out" / "shard-000000.tar") as tar:
        assert len(set(tar.getnames())) == 10
        assert not any(c in name for name in tar.getnames() for c in "/ ü")


def test_any_number_of_processes_writes_the_same(tmp_path, capsys):
    """In the same order, with the same problems; a bar counts what is written."""
    rows = []
    for number in range(7):
        path = tmp_path / f"{number}.wav"
        rows.append(utterance(write(path, tone(0.1 + number / 50))))
    rows.insert(2, DataError("row 2 is bad"))
    rows.insert(5, utterance(tmp_path / "gone.wav"))
    found = []
    for workers in (0, 2):
        out = tmp_path / f"by {workers}"
        done = write_shards(iter(rows), out, "flac", 3, workers=workers, progress=True)
        assert (done.read.rows, done.written.rows, done.left_out.rows) == (9, 7, 2)
        found.append(files(out))
    assert found[0] == found[1]
    assert len(found[0]) == 4
    assert "7 utterances" in capsys.readouterr().err


def files(folder):
    """What the files of a folder hold, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_damaged_row_is_left_out_and_nothing_written_over(tmp_path, caplog):
    good, bad = write(tmp_path / "a.wav"), tmp_path / "b.wav"
    bad.write_bytes(b"RIFF nothing of the kind")
    rows = [utterance(good), utterance(bad), DataError("m:3: is bad"), utterance(good)]
    done = write_shards(rows, tmp_path / "out", max_utterances=2)
    assert [entry.utterances for entry in done.entries] == [2]
    assert str(done.left_out) == "2 rows, 0.00 hours and 1 of unknown length"
    assert len(caplog.messages) == 2
    with pytest.raises(EchoError, match="out: exists, and is not an empty folder"):
        write_shards(rows[:1], tmp_path / "out")
    with pytest.raises(DataError, match="none of the 2 rows can be used"):
        write_shards(rows[1:3], tmp_path / "none")
    assert {path.name for path in tmp_path.iterdir()} == {"a.wav", "b.wav", "out"}


def rows_of(folder, count=7):
    """Rows of a manifest, of which the last but one is damaged."""
    rows = []
    for number in range(count):
        seconds = 0.1 + number / 50
        write(folder / f"{number}.wav", tone(seconds))
        row = {"audio_filepath": f"{number}.wav", "text": f"text {number}", "duration": seconds}
        rows.append(row)
    (folder / "5.wav").write_bytes(b"RIFF nothing of the kind")
    return write_manifest(folder / "m.jsonl", *rows)


KILLED = """
import os, signal, sys
from pathlib import Path
import echo.data.prepare.shard as shard
from echo.data.sources import scan_source
add, left = shard.add, [int(sys.argv[3])]
def adding(*arguments):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    add(*arguments)
shard.add = adding
shard.write_shards(scan_source(sys.argv[1]), Path(sys.argv[2]), sys.argv[4], 2)
"""


def kill_at(spec, out, member, format="flac"):
    """Kills the process that writes shards at this member of a tar file."""
    arguments = [sys.executable, "-c", KILLED, spec, str(out), str(member), format]
    assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
    assert not out.exists()


@pytest.mark.parametrize("format", ["flac", "opus"])
def test_killed_and_started_again_it_ends_with_the_same_bytes(
    format, tmp_path, monkeypatch, caplog
):
    """And what was finished is not done again."""
    spec = rows_of(tmp_path)
    expected = write_shards(scan_source(spec), tmp_path / "at once", format, 2)
    out, hidden = tmp_path / "out", tmp_path / ".out.writing"
    kill_at(spec, out, 6, format)
    assert (hidden / "shard-000000.tar").exists()
    assert len((hidden / "shards.jsonl").read_text().splitlines()) == 1
    before = (hidden / "shard-000000.tar").stat().st_mtime_ns
    with (hidden / "shards.jsonl").open("a") as file:
        file.write('{"key": "shard-0000')  # as if killed there
    encoded = []
    monkeypatch.setattr(
        shard, "encode", lambda row, format: encoded.append(row) or encode(row, format)
    )
    caplog.clear()
    done = write_shards(scan_source(spec), out, format, 2)
    assert [row.text for row in encoded] == [f"text {number}" for number in range(2, 7)]
    assert "goes on after 1 finished shards, with 2 rows" in caplog.text
    assert files(out) == files(tmp_path / "at once")
    assert (out / "shard-000000.tar").stat().st_mtime_ns == before
    assert done == expected
    assert not hidden.exists()


def test_it_goes_on_with_the_same_rows_and_settings_alone(tmp_path):
    spec = rows_of(tmp_path)
    out = tmp_path / "out"
    kill_at(spec, out, 10)
    rows = list(scan_source(spec))
    changed = [replace(rows[0], text="another"), *rows[1:]]
    for begun, options in (
        (rows, {"max_utterances": 3}),
        (rows, {"format": "opus"}),
        (changed, {}),
        (rows[1:], {}),
        (rows[:3], {}),
    ):
        with pytest.raises(
            EchoError, match=r"\.out\.writing: holds shards that were begun with other"
        ):
            write_shards(begun, out, **{"max_utterances": 2, **options})
    # What is not in a finished shard may have been mended.
    write(tmp_path / "5.wav")
    done = write_shards(scan_source(spec), out, max_utterances=2)
    assert (done.written.rows, done.left_out.rows) == (7, 0)
    assert [row.text for row in read_source(str(out))] == [f"text {n}" for n in range(7)]


def test_a_shard_that_is_not_the_manifests_is_named(tmp_path):
    out = tmp_path / "out"
    write_shards([utterance(write(tmp_path / "a.wav"))] * 2, out, max_utterances=1)
    lines = (out / "shards.jsonl").read_text().splitlines()
    entry = json.loads(lines[0])
    for change, message in (
        ({"shard": "../x.tar"}, "shards.jsonl:1: 'shard' must be the name of a file beside it"),
        ({"bytes": 5}, r"shard-000000.tar: has 10240 bytes|has \d+ bytes, not 5 as"),
        ({"shard": "gone.tar"}, "gone.tar: no such shard"),
        ({"utterances": "3"}, "shards.jsonl:1: 'utterances' is missing or of the wrong kind"),
        ({"utterances": 3}, "holds 1 utterances, not 3 as shards.jsonl says"),
    ):
        (out / "shards.jsonl").write_text(json.dumps(entry | change) + "\n" + lines[1])
        with pytest.raises(DataError, match=message):
            read_source(str(out))


FLAC = io.BytesIO()
soundfile.write(FLAC, tone(0.2), 16_000, format="FLAC")


def tar_of(path, *members):
    """Members by name and content, or as TarInfo."""
    with tarfile.open(path, "w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            name, content = member
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def read(path):
    return utterances(read_tar(path, Columns()))


GOOD = [("g.flac", FLAC.getvalue()), ("g.txt", b"one two")]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([special("a.flac", tarfile.SYMTYPE, "/etc/passwd")], "'a.flac' is a link, a device"),
        ([special("a.flac", tarfile.LNKTYPE, "g.flac")], "'a.flac' is a link, a device"),
        ([special("a.flac", tarfile.CHRTYPE)], "'a.flac' is a link, a device"),
        ([special("a.flac", tarfile.FIFOTYPE)], "'a.flac' is a link, a device"),
        ([("/a.flac", b"")], "'/a.flac' has a name that points outside the shard"),
        ([("a/../../b.flac", b"")], "has a name that points outside the shard"),
        ([("g.flac", b"x")], "'g.flac' is there twice"),
        ([("a.txt", b"one")], "x.tar:a: must have one recording, but has none of flac"),
        ([("a.flac", b"x"), ("a.wav", b"x"), ("a.txt", b"t")], "but has flac and wav"),
        ([("a.flac", FLAC.getvalue())], "x.tar:a: no text column"),
        ([("a.flac", b"x"), ("a.txt", b"one")], "'?a.flac'?: cannot be read as audio"),
        ([("a.flac", b"x"), ("a.json", b"{]")], "x.tar:a: is not JSON"),
        ([("a.flac", b"x"), ("a.json", b'{"text": 3}')], "x.tar:a: 'text' must be a string"),
        ([("a.flac", b"x"), ("a.txt", b"\xff")], "x.tar:a: .*UTF-8|x.tar:a: .*not valid Unicode"),
    ],
)
def test_what_is_wrong_in_a_shard_is_named_and_the_rest_read(tmp_path, members, message):
    path = tar_of(tmp_path / "x.tar", *GOOD, *members)
    rows = list(read(path))
    assert [row.text for row in rows if isinstance(row, Utterance)] == ["one two"]
    (error,) = [row for row in rows if isinstance(row, DataError)]
    with pytest.raises(DataError, match=message):
        raise error
    assert str(path) in str(error)
    assert "\n" not in str(error)
    assert [p.name for p in tmp_path.iterdir()] == ["x.tar"]  # nothing is extracted
    assert len(read_source(str(path), ReadOptions(on_error="skip"))) == 1


def damaged(path, damage):
    content = bytearray(tar_of(path, *GOOD, ("h.flac", b"x" * 9000), ("h.txt", b"h")).read_bytes())
    header = content.index(b"h.flac")
    if damage == "cut within":
        del content[header + 4000 :]
    elif damage == "cut between":
        del content[header:]
    elif damage == "header":
        content[header + 20] ^= 1
    elif damage in ("size", "negative"):
        size = b"00000077777\0" if damage == "size" else b"\xff" * 11 + b"\x01"
        content[header + 124 : header + 136] = size
        content[header + 148 : header + 156] = b" " * 8
        total = sum(content[header : header + 512])
        content[header + 148 : header + 156] = b"%06o\0 " % total
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("damage", ["cut within", "cut between", "header", "size", "negative"])
def test_a_damaged_shard_is_named_after_what_can_be_read(tmp_path, damage):
    path = damaged(tmp_path / "x.tar", damage)
    *good, error = list(read(path))
    assert good[0].id == "g"
    assert isinstance(error, DataError)
    assert str(error).startswith(str(path))
    for content in (b"", b"no tar " * 100):
        path.write_bytes(content)
        (error,) = read(path)
        assert "x.tar: is cut off or damaged" in str(error)
    (error,) = read(tar_of(path))
    assert str(error) == f"{path}: is empty"


def test_a_recording_cut_off_since_it_was_listed_is_named(tmp_path):
    path = tar_of(tmp_path / "x.tar", *GOOD)
    (row,) = read(path)
    assert row.duration == header_duration(io.BytesIO(FLAC.getvalue()))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"x.tar:g.flac: is cut off after 488 of \d+ bytes"):
        row.audio.load()


def test_folders_and_other_files_in_a_shard_are_passed_over(tmp_path):
    folder = special("./d", tarfile.DIRTYPE)
    members = [("./d/k.flac", FLAC.getvalue()), ("./d/k.cls", b"3"), ("./d/k.txt", b"one")]
    (row,) = read(tar_of(tmp_path / "x.tar", folder, *members))
    assert (row.id, row.text) == ("d/k", "one")


def test_missing_shards_and_odd_patterns_are_named(tmp_path):
    tar_of(tmp_path / "t-00.tar", *GOOD)
    for pattern, message in (
        ("t-{00..01}.tar", "t-01.tar: no such shard"),
        ("t-{5..1}.tar", "names 0 shards"),
        ("t-{0..99999999999}.tar", "names 100000000000 shards"),
        ("none.parquet", r"none.parquet: no such file"),
    ):
        with pytest.raises(DataError, match=message):
            read_source(str(Path(tmp_path) / pattern))


def test_the_bar_ends_its_line_before_an_error_is_shown(tmp_path, capsys):
    with pytest.raises(DataError, match="none of the 1 rows"):
        write_shards(iter([DataError("a.wav is missing")]), tmp_path / "out", progress=True)
    assert capsys.readouterr().err.endswith("\n")


def test_opus_depends_on_the_sound_alone(tmp_path):
    """libogg, which libsndfile reads by, drops pages whose checksum is wrong."""
    rows = [utterance(write(tmp_path / "a.wav", tone(3)))]
    once, again = (encode(rows[0], "opus").content for _ in range(2))
    assert once == again
    found, rate = soundfile.read(io.BytesIO(once))
    assert len(found) == 3 * rate
    damaged = bytearray(once)
    damaged[-1] ^= 1
    assert len(soundfile.read(io.BytesIO(damaged))[0]) < 3 * rate
