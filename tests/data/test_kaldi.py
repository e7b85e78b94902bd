"""Kaldi's data folders as a source."""

import re
from pathlib import Path

import pytest

from echo.data.sources import read_source, scan_source
from echo.data.utterance import Utterance
from echo.support.errors import DataError
from tests.data.recordings import tone, write


def folder(place: Path, **files: str) -> str:
    """Two recordings of two seconds, with what the files say of them; `_` stands for a dot."""
    for name in ("r1", "r2"):
        write(place / f"{name}.wav", tone(2))
    said = {"wav_scp": "r1 r1.wav\nr2 r2.wav\n", "text": "r1 one\nr2 two words\n", **files}
    for name, text in said.items():
        (place / name.replace("_", ".")).write_bytes(text.encode("utf-8", "surrogateescape"))
    return str(place)


def rows(spec: str) -> list[str]:
    """Ids of the rows, and the messages of those that are none."""
    return [row.id if isinstance(row, Utterance) else str(row) for row in scan_source(spec)]


def test_recordings_with_their_speakers_languages_and_genders(tmp_path):
    spec = folder(tmp_path, utt2spk="r1 ann\nr2 r2\n", utt2lang="r1 de\n", spk2gender="ann f\n")
    first, second = read_source(spec)
    assert (first.id, first.text, first.speaker, first.language) == ("r1", "one", "ann", "de")
    assert first.extra["gender"] == "f"
    assert first.duration == 2.0
    # The utterance's own id stands for an unknown speaker.
    assert (second.text, second.speaker, second.language) == ("two words", None, None)


def test_segments_are_parts(tmp_path):
    segments = "a r1 0.5 1.25\nb r1 1.25 -1\nc r2 0 2\n"
    found = read_source(folder(tmp_path, segments=segments, text="a x\nb\nc z\n"))
    parts = [row.audio.as_slice() for row in found]
    assert [(part.start, part.end) for part in parts] == [(0.5, 1.25), (1.25, None), (0.0, 2.0)]
    assert [row.duration for row in found] == [0.75, 0.75, 2.0]
    assert [row.text for row in found] == ["x", "", "z"]
    assert {row.extra["recording"] for row in found} == {"r1", "r2"}
    assert len(found[0].audio.load()) == 12_000


@pytest.mark.parametrize("command", ["touch ran; cat r1.wav |", "cat r1.wav|", "| touch ran"])
def test_a_command_is_refused_and_never_run(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    spec = folder(tmp_path, wav_scp=f"r1 {command}\nr2 r2.wav\n")
    message, second = rows(spec)
    assert "wav.scp:1 is a command, which is never run" in message
    assert second == "r2"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"wav_scp": "r1 raw.ark:1234\nr2 r2.wav\n"}, "wav.scp:1 is a place in an archive"),
        ({"wav_scp": "r1\nr2 r2.wav\n"}, "wav.scp:1: 'audio' must be a path, not ''"),
        ({"wav_scp": "r1 gone.wav\nr2 r2.wav\n"}, "wav.scp:1: no recording 'gone.wav'"),
        ({"wav_scp": "r2 r2.wav\n"}, "text:1: .*wav.scp has no line for 'r1'"),
        ({"text": "r2 two\n"}, "wav.scp:1: .*text has no line for 'r1'"),
        ({"text": "r2 two\nr2 other\nr1 \udcff\n"}, "text:3: is not UTF-8 text"),
        ({"text": "r1 one\nr2 two\nr2 other\n"}, "text:3: text has 'r2' twice"),
        ({"segments": "r1 r1 0\nr2 r2 0 1\n"}, "segments:1: a segment must be an id"),
        ({"segments": "r1 r9 0 1\nr2 r2 0 1\n"}, "segments:1: wav.scp has no recording 'r9'"),
        ({"segments": "r1 r1 1 0.5\nr2 r2 0 1\n"}, "segments:1: 'end' must be after the start"),
        ({"segments": "r1 r1 nan 1\nr2 r2 0 1\n"}, "segments:1: 'start' must be a number of sec"),
        ({"segments": "r1 r1 0 1 B\nr2 r2 0 1\n"}, "segments:1: 'channel' must be left, right"),
    ],
)
def test_a_bad_line_is_named_and_the_others_are_read(tmp_path, files, message):
    found = list(scan_source(folder(tmp_path, **files)))
    assert "r2" in [row.id for row in found if isinstance(row, Utterance)]
    problems = [str(row) for row in found if isinstance(row, DataError)]
    assert any(re.search(message, problem) for problem in problems), problems


def test_a_folder_without_texts_is_refused(tmp_path):
    spec = folder(tmp_path)
    (tmp_path / "text").unlink()
    with pytest.raises(DataError, match="text: cannot be read"):
        read_source(spec)
