"""lhotse's manifests as a source."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from echo.data.sources import ReadOptions, read_source, scan_source
from echo.data.utterance import Utterance
from echo.support.errors import DataError
from tests.data.recordings import tone, write

SUPERVISION = {"id": "s", "recording_id": "r", "start": 0.5, "duration": 1.0, "text": "one"}
FILE = {"type": "file", "channels": [0], "source": "a.wav"}
RECORDING = {
    **{"id": "r", "sources": [FILE], "sampling_rate": 16_000},
    **{"num_samples": 48_000, "duration": 3.0},
}
CUT = {
    **{"id": "c", "start": 1.0, "duration": 2.0, "channel": 0, "type": "MonoCut"},
    **{"recording": RECORDING, "supervisions": [SUPERVISION]},
}


def lines(path: Path, *records: Any) -> str:
    text = "".join(each if isinstance(each, str) else json.dumps(each) + "\n" for each in records)
    content = text.encode()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return str(path)


@pytest.fixture(autouse=True)
def recording(tmp_path):
    write(tmp_path / "a.wav", tone(3))


@pytest.mark.parametrize("name", ["cuts.jsonl", "dev_cuts.jsonl.gz", "recordings_cuts.jsonl"])
def test_a_supervision_begins_within_its_cut(tmp_path, name):
    later = {**SUPERVISION, "id": "t", "start": 1.5, "duration": 0.5, "speaker": "x"}
    later |= {"language": "de", "gender": "f", "custom": {"mood": "calm", "offset": 7, "at": [1]}}
    spec = lines(tmp_path / name, {**CUT, "supervisions": [SUPERVISION, later]})
    first, second = read_source(spec)
    assert (first.id, first.text, first.speaker) == ("s", "one", None)
    part = first.audio.as_slice()
    assert (part.start, part.end) == (1.5, 2.5)
    assert (second.id, second.speaker, second.language) == ("t", "x", "de")
    assert second.extra == {"mood": "calm", "recording": "r", "gender": "f", "language": "de"}
    part = second.audio.as_slice()
    assert (part.start, part.end) == (2.5, 3.0)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
@pytest.mark.parametrize("named", ["", "supervisions", "recordings"])
def test_recordings_with_supervisions(tmp_path, suffix, named):
    """By the folder, or by either file."""
    whole = {**SUPERVISION, "id": "w", "start": 0, "duration": 3.0}
    lines(tmp_path / f"recordings{suffix}", RECORDING)
    lines(tmp_path / f"supervisions{suffix}", SUPERVISION, whole)
    first, second = read_source(str(tmp_path / f"{named}{suffix}" if named else tmp_path))
    part = first.audio.as_slice()
    assert (part.start, part.end) == (0.5, 1.5)
    assert second.audio.as_slice() is None
    assert second.duration == 3.0


def test_what_lhotse_itself_writes_is_read(tmp_path):
    """Of a corpus whose cuts were moved and cut again, which is where offsets were lost."""
    lhotse = pytest.importorskip("lhotse")
    recordings = lhotse.RecordingSet.from_recordings(
        [lhotse.Recording.from_file(tmp_path / "a.wav", recording_id="r")]
    )
    segment = {**SUPERVISION, "channel": 0}
    supervisions = lhotse.SupervisionSet.from_segments(
        [
            lhotse.SupervisionSegment(**segment),
            lhotse.SupervisionSegment(**{**segment, "id": "t", "start": 1.75}),
        ]
    )
    cuts = lhotse.CutSet.from_manifests(recordings, supervisions)
    made = {
        "whole": cuts,
        "trimmed": cuts.trim_to_supervisions(keep_overlapping=False),
        "truncated": cuts.map(lambda cut: cut.truncate(offset=0.25, preserve_id=True)),
    }
    for name, each in made.items():
        each.to_file(tmp_path / f"{name}.jsonl.gz")
        found = read_source(str(tmp_path / f"{name}.jsonl.gz"))
        starts = {row.id: row.audio.as_slice().start for row in found}
        assert starts == pytest.approx({"s": 0.5, "t": 1.75})
        assert [row.duration for row in found] == pytest.approx([1.0, 1.0])


def changed(**recording: Any) -> dict[str, Any]:
    return {**CUT, "recording": {**RECORDING, **recording}}


def test_a_manifest_of_another_kind_is_no_cut(tmp_path):
    row = {"audio_filepath": "a.wav", "text": "one", "start": 0.5, "end": 1.0, "id": "x"}
    (found,) = read_source(lines(tmp_path / "m.jsonl", row))
    assert found.audio.as_slice().start == 0.5


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        ({**CUT, "type": "MixedCut"}, "is a MixedCut: only cuts of one recording"),
        ({**CUT, "supervisions": []}, "the cut has no supervisions"),
        ({**CUT, "supervisions": [{**SUPERVISION, "text": None}]}, "'text' is missing"),
        ({**CUT, "supervisions": [{**SUPERVISION, "start": -2}]}, "begins 1.000 s before its rec"),
        ({**CUT, "supervisions": [{**SUPERVISION, "start": "0"}]}, "'start' must be a number of"),
        ({**CUT, "supervisions": ["s"]}, "a supervision must be an object"),
        ({**CUT, "recording": None}, "'recording' is missing"),
        (changed(sources=[{**FILE, "type": "command", "source": "touch ran"}]), "never run"),
        (changed(sources=[FILE, FILE]), "must be one file"),
        (changed(sources=[{**FILE, "source": "../a.wav"}]), "no recording '../a.wav'"),
        (changed(sources=[{**FILE, "source": "/etc/passwd"}]), "outside of"),
        (changed(sources=[{**FILE, "channels": [0, 1]}]), None),
        (changed(transforms=[{"name": "Speed", "kwargs": {"factor": 1.1}}]), "is transformed"),
        ("{\n", "is not JSON"),
        ("[]\n", "is not a JSON object"),
    ],
)
def test_a_bad_cut_is_named_and_the_others_are_read(tmp_path, cut, message):
    spec = lines(tmp_path / "cuts.jsonl", CUT, cut, CUT)
    if message is None:  # a cut that says no channel is of all of them
        assert len(read_source(spec)) == 3
        return
    found = list(scan_source(spec))
    assert [isinstance(row, Utterance) for row in found] == [True, False, True]
    with pytest.raises(DataError, match=rf"cuts.jsonl:2: .*{message}"):
        raise found[1]
    assert not (tmp_path / "ran").exists()


def test_a_supervision_may_be_of_one_channel(tmp_path):
    """By its place in the file; of some of several there is no one recording."""
    both = {**RECORDING, "sources": [{**FILE, "channels": [4, 7]}]}
    cuts = [
        {**CUT, "recording": both, "supervisions": [{**SUPERVISION, "channel": channel}]}
        for channel in (7, [4, 7], 5)
    ]
    one, all, other = scan_source(lines(tmp_path / "cuts.jsonl", *cuts))
    assert one.audio.only_channel() == 1
    assert all.audio.only_channel() is None
    with pytest.raises(
        DataError, match=r"cuts.jsonl:3: is channel 5 of \[4, 7\]: only one, or all"
    ):
        raise other


def test_a_file_that_is_cut_off_gives_what_it_holds(tmp_path):
    spec = lines(tmp_path / "cuts.jsonl.gz", *[{**CUT, "id": f"c{i}"} for i in range(2000)])
    content = Path(spec).read_bytes()
    Path(spec).write_bytes(content[: len(content) // 2])
    *rows, last = scan_source(spec)
    assert len(rows) > 10
    assert "cuts.jsonl.gz: is cut off or damaged after line" in str(last)


@pytest.mark.parametrize("content", [b"", b"plain text\n", gzip.compress(b"", mtime=0)])
def test_what_is_no_manifest_is_refused(tmp_path, content):
    (tmp_path / "cuts.jsonl.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"cuts.jsonl.gz"):
        read_source(str(tmp_path / "cuts.jsonl.gz"))


def test_supervisions_need_their_recordings(tmp_path):
    spec = lines(tmp_path / "dev_supervisions.jsonl", SUPERVISION)
    with pytest.raises(
        DataError, match=r"needs recordings beside it, in .*dev_recordings.jsonl or"
    ):
        read_source(spec)
    lines(tmp_path / "dev_recordings.jsonl", {**RECORDING, "id": "other"}, "{\n")
    with pytest.raises(DataError, match="there is no recording 'r'"):
        read_source(spec)
    options = ReadOptions(on_error="skip")
    with pytest.raises(DataError, match="none of its 2 rows can be used"):
        read_source(spec, options)
