"""Transcripts as files: whatever is said, every format reads back as it was."""

import html
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echo.support.errors import ConfigError, EchoError
from echo.support.files import writable_folder
from echo.support.text import distinct
from echo.transcribe.formats import (
    FORMATS,
    read_formats,
    write_transcript,
)
from echo.transcribe.recordings import heard_channels
from echo.transcribe.subtitles import Layout
from echo.transcribe.transcript import Decoding, Segment, Transcript, Word

CUE = re.compile(r"(\d+):(\d\d):(\d\d)[,.](\d\d\d) --> (\d+):(\d\d):(\d\d)[,.](\d\d\d)")
SAMPLE = Transcript(
    3725.5,
    (
        Segment(
            0.0,
            1.25,
            "One & <two>",
            (Word(0.0, 0.5, "One"), Word(0.5, 1.25, "<two>", 0.98765)),
            0.5,
            Decoding(0.2, -0.34567, 1.5, None),
        ),
        Segment(3661.002, 3662.9996, 'a --> b, "c"'),
    ),
    "en",
)


def seconds(hours, minutes, secs, millis):
    return (1000 * (3600 * int(hours) + 60 * int(minutes) + int(secs)) + int(millis)) / 1000


def read_cues(text):
    """The (start, end, text) of SubRip's or WebVTT's cues."""
    cues = []
    for block in text.strip().split("\n\n"):
        lines = block.split("\n")
        if lines[0] in ("WEBVTT", ""):  # the header, or nothing at all
            continue
        lines = lines[1:] if lines[0].isdigit() else lines
        found = CUE.fullmatch(lines[0]).groups()
        cues.append((seconds(*found[:4]), seconds(*found[4:]), "\n".join(lines[1:])))
    return cues


# A segment's text is one line of words, and never empty.
texts = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=30
).map(lambda text: " ".join(text.split()) or "-")
times = st.integers(0, 10**9).map(lambda ms: ms / 1000)
transcripts = st.lists(st.tuples(times, times, texts), max_size=4).map(
    lambda rows: Transcript(1e6, tuple(Segment(min(r[:2]), max(r[:2]), r[2]) for r in rows))
)


@settings(deadline=None)
@given(transcripts)
def test_subtitles_read_back(transcript):
    expected = [(s.start, s.end, s.text) for s in transcript.segments]
    srt = [(start, end, text) for start, end, text in read_cues(FORMATS["srt"](transcript))]
    vtt = read_cues(FORMATS["vtt"](transcript))
    assert srt == [(start, end, text.replace("-->", "->")) for start, end, text in expected]
    assert [(start, end, html.unescape(text)) for start, end, text in vtt] == expected
    assert all("-->" not in text for _, _, text in vtt + srt)


@settings(deadline=None)
@given(transcripts)
def test_tables_and_text_read_back(transcript):
    expected = [(s.start, s.end, s.text) for s in transcript.segments]
    header, *rows = FORMATS["tsv"](transcript).removesuffix("\n").split("\n")
    assert header.split("\t") == ["start", "end", "text"]
    cells = [row.split("\t") for row in rows]
    assert [(int(start) / 1000, int(end) / 1000, text) for start, end, text in cells] == expected
    assert FORMATS["txt"](transcript).split("\n")[:-1] == [text for *_, text in expected]


def test_json_has_everything():
    found = json.loads(FORMATS["json"](SAMPLE))
    assert found["duration"] == 3725.5
    assert found["language"] == "en"
    assert found["text"] == SAMPLE.text == 'One & <two> a --> b, "c"'
    first, second = found["segments"]
    assert first["words"][1] == {"start": 0.5, "end": 1.25, "text": "<two>", "confidence": 0.988}
    assert first["confidence"] == 0.5
    decoding = {key: first[key] for key in first if key not in ("words", "confidence")}
    assert decoding == {
        "start": 0.0,
        "end": 1.25,
        "text": "One & <two>",
        "temperature": 0.2,
        "avg_logprob": -0.346,
        "compression_ratio": 1.5,
    }
    assert second == {"start": 3661.002, "end": 3663.0, "text": 'a --> b, "c"'}


def test_subtitles_are_as_their_formats_ask():
    assert FORMATS["srt"](SAMPLE) == (
        "1\n00:00:00,000 --> 00:00:01,250\nOne & <two>\n\n"
        '2\n01:01:01,002 --> 01:01:03,000\na -> b, "c"\n\n'
    )
    assert FORMATS["vtt"](SAMPLE) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.250\nOne &amp; &lt;two&gt;\n"
        '\n01:01:01.002 --> 01:01:03.000\na --&gt; b, "c"\n'
    )


def test_silence_makes_files_without_text():
    silence = Transcript(3.0, ())
    assert FORMATS["txt"](silence) == FORMATS["srt"](silence) == ""
    assert FORMATS["vtt"](silence) == "WEBVTT\n"
    assert FORMATS["tsv"](silence) == "start\tend\ttext\n"
    assert json.loads(FORMATS["json"](silence))["segments"] == []


def test_subtitles_alone_are_laid_out(tmp_path):
    words = Transcript(9.0, (Segment(0.0, 9.0, "one two three four five six"),))
    layout = Layout(line_width=9, line_count=1)
    write_transcript(words, tmp_path, "talk", list(FORMATS), layout)
    lines = ["one two", "three", "four five", "six"]
    for kind in ("srt", "vtt"):
        assert [text for *_, text in read_cues((tmp_path / f"talk.{kind}").read_text())] == lines
    for kind in ("txt", "tsv", "json"):
        assert (tmp_path / f"talk.{kind}").read_text() == FORMATS[kind](words)


def test_every_recording_has_files_of_its_own():
    paths = ["a/talk.wav", "b/talk.flac", "talk-2.wav", "c/TALK.mp3", "talk.v1.wav", "..wav"]
    names = distinct(name for path in paths for _, name in heard_channels(Path(path), None))
    assert names == ["talk", "talk-2", "talk-2-2", "TALK-3", "talk.v1", "."]


@pytest.mark.parametrize("name", ["..wav", "...", "~.wav", "a\nb.wav"])
def test_files_stay_in_their_folder(tmp_path, name):
    [(_, out)] = heard_channels(Path("elsewhere") / name, None)
    write_transcript(SAMPLE, tmp_path, out, ["txt"])
    assert len(list(tmp_path.iterdir())) == 1


def test_writing_replaces_links_and_leaves_their_targets(tmp_path):
    target = tmp_path / "target"
    target.write_text("mine")
    folder = tmp_path / "out"
    writable_folder(folder)
    (folder / "talk.txt").symlink_to(target)
    write_transcript(SAMPLE, folder, "talk", ["txt", "srt"])
    assert target.read_text() == "mine"
    assert sorted(path.name for path in folder.iterdir()) == ["talk.srt", "talk.txt"]


def test_what_cannot_be_written_is_said(tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("")
    with pytest.raises(EchoError, match=r"taken: is a file, but must be a folder"):
        writable_folder(taken)
    with pytest.raises(EchoError, match=r"talk.txt: cannot be written \(Not a directory\)"):
        write_transcript(SAMPLE, taken, "talk", ["txt"])
    (tmp_path / "talk.txt").mkdir()
    with pytest.raises(EchoError, match=r"talk.txt: cannot be written"):
        write_transcript(SAMPLE, tmp_path, "talk", ["txt"])
    assert {path.name for path in tmp_path.iterdir()} == {"taken", "talk.txt"}


def test_formats_are_checked():
    assert read_formats("txt, json,txt") == ["txt", "json"]
    assert read_formats("vtt", words=True, layout=True) == ["vtt"]
    with pytest.raises(ConfigError, match="--max-line-width and --max-line-count are for srt"):
        read_formats("txt,json", layout=True)
    with pytest.raises(ConfigError, match="unknown format 'doc'; there are: txt, srt, vtt, tsv"):
        read_formats("srt,doc")
