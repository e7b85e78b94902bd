"""Corrections change the texts that they name and nothing else, and what does not fit is named."""

import json
from pathlib import Path

import pytest

from echo.data.prepare.corrections import apply_corrections, place_of
from echo.data.sources import ReadOptions, read_source, scan_rows
from echo.support.errors import DataError, EchoError
from tests.data.recordings import tone, write, write_manifest
from tests.test_cli import run

OUTSIDE = ReadOptions(allow_outside=True)


@pytest.fixture
def data(tmp_path) -> str:
    """Parts of two recordings, and a row with an id."""
    for name in ("a", "b"):
        write(tmp_path / "data" / f"{name}.wav", tone(4))
    part = {"duration": 1.0, "speaker": "s", "words": ["kept"]}
    return write_manifest(
        tmp_path / "data" / "data.jsonl",
        {"audio_filepath": "a.wav", "offset": 0.25, "text": "one", **part},
        {"audio_filepath": "a.wav", "offset": 1.5, "text": "two", **part},
        {"audio_filepath": "b.wav", "offset": 0.25, "text": "three", **part},
        {"audio_filepath": "b.wav", "id": "named", "text": "", "speaker": "t"},
    )


def correction(spec: str, number: int, after: str, **changed: object) -> dict[str, object]:
    row = [*scan_rows(spec)][number]
    utterance = row.utterance()
    return {**place_of(row, utterance), "before": utterance.text, "after": after, **changed}


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_texts_are_corrected_and_all_else_is_as_it_was(data, tmp_path):
    corrections = write_manifest(
        tmp_path / "c.jsonl", correction(data, 1, " zwölf "), correction(data, 3, "four")
    )
    out = tmp_path / "out.jsonl"
    done = apply_corrections(Path(corrections), data, out, ReadOptions())
    assert (done.read.rows, done.written.rows, done.corrected.rows) == (4, 4, 2)
    assert done.refused == []
    before, after = read_source(data), read_source(str(out), OUTSIDE)
    assert [u.text for u in after] == ["one", "zwölf", "three", "four"]
    assert [u.extra.get("text_before") for u in after] == [None, "two", None, ""]
    for old, new in zip(before, after, strict=True):
        assert (new.id, new.duration, new.speaker) == (old.id, old.duration, old.speaker)
        assert (new.audio.load() == old.audio.load()).all()
    assert all(record["words"] == ["kept"] for record in records(out)[:3])


def test_corrections_fit_the_same_rows_in_another_manifest(data, tmp_path):
    first = tmp_path / "deep" / "er" / "out.jsonl"
    first.parent.mkdir(parents=True)
    one = write_manifest(tmp_path / "c.jsonl", correction(data, 0, "uno"))
    two = write_manifest(tmp_path / "d.jsonl", correction(data, 1, "due"))
    apply_corrections(Path(one), data, first, ReadOptions())
    apply_corrections(Path(two), str(first), tmp_path / "out.jsonl", OUTSIDE)
    assert [record["text"] for record in records(tmp_path / "out.jsonl")[:2]] == ["uno", "due"]


def test_what_does_not_fit_is_named_and_the_others_are_applied(data, tmp_path, monkeypatch, capsys):
    lines = {
        "'three', not 'tree'": correction(data, 2, "x", before="tree"),
        "has no row 'other'": correction(data, 0, "x", id="other"),
        "'b.wav' from 0.25 s": correction(data, 0, "x", audio_filepath="b.wav"),
        "from 0.5 s": correction(data, 0, "x", offset=0.5),
        "is not JSON": "{torn",
        "names no row": {"before": "one", "after": "x"},
        "'after' is blank": correction(data, 0, "  "),
        "'before' is missing": correction(data, 0, "x", before=None),
        "is corrected twice": correction(data, 1, "x"),
        "c.jsonl:9, ": correction(data, 1, "y"),
    }
    corrections = write_manifest(tmp_path / "c.jsonl", *lines.values(), correction(data, 3, "four"))
    Path(data).write_text(Path(data).read_text() + "{torn\n")
    out = tmp_path / "new" / "out.jsonl"
    code, text, _ = run(monkeypatch, capsys, "data", "apply", corrections, data, out)
    assert code == 2
    refused = [line for line in text.splitlines() if line.startswith("  ")]
    assert len(refused) == len(lines)
    for i, problem in enumerate(lines, 1):
        [line] = [line for line in refused if line.startswith(f"  {corrections}:{i}: ")]
        assert problem in line
    assert text.startswith("read 5 rows, 0.00 hours and 1 of unknown length; wrote 4 rows")
    assert "left out 1 row" in text
    assert [record["text"] for record in records(out)] == ["one", "two", "three", "four"]


def test_nothing_is_overwritten_and_nothing_is_left_of_what_fails(data, tmp_path):
    corrections = Path(write_manifest(tmp_path / "c.jsonl", correction(data, 0, "x", before="y")))
    out = tmp_path / "out" / "out.jsonl"
    out.parent.mkdir()
    with pytest.raises(DataError, match=r"nothing can be applied; .*'one', not 'y'"):
        apply_corrections(corrections, data, out, ReadOptions())
    assert not [*out.parent.iterdir()]
    with pytest.raises(EchoError, match="nothing is overwritten"):
        apply_corrections(corrections, data, Path(data), ReadOptions())
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match="holds no corrections"):
        apply_corrections(tmp_path / "empty.jsonl", data, out, ReadOptions())


def test_a_correction_hits_one_row_or_none(tmp_path):
    for name in ("a/1.wav", "b/1.wav", "call.wav"):
        write(tmp_path / name, tone(1, channels=2))
    call = {"audio_filepath": "call.wav", "id": "call", "text": "yes"}
    data = write_manifest(
        tmp_path / "data.jsonl",
        {**call, "channel": 0},
        {**call, "channel": "right"},
        {"audio_filepath": "a/1.wav", "id": "1", "text": "one"},
        {"audio_filepath": "b/1.wav", "id": "1", "text": "one"},
        {"audio_filepath": "b/1.wav", "id": "1", "text": "two"},
    )
    corrections = write_manifest(
        tmp_path / "c.jsonl",
        correction(data, 1, "no"),
        correction(data, 2, "uno"),
        {**correction(data, 4, "due"), "id": "2"},
    )
    done = apply_corrections(Path(corrections), data, tmp_path / "out.jsonl", ReadOptions())
    texts = [record["text"] for record in records(tmp_path / "out.jsonl")]
    assert texts == ["yes", "no", "one", "one", "two"]
    assert "c.jsonl:2: fits 2 rows" in done.refused[0]
    assert f"{data}:3, {data}:4" in done.refused[0]
    # Of rows of one name, the text tells which.
    one = write_manifest(
        tmp_path / "d.jsonl", correction(data, 4, "due"), correction(data, 0, "x", before="gone")
    )
    done = apply_corrections(Path(one), data, tmp_path / "last.jsonl", ReadOptions())
    assert "the text of 'call' is 'yes', not 'gone'" in done.refused[0]
    assert records(tmp_path / "last.jsonl")[4]["text"] == "due"
