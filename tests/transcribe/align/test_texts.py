"""What is said is read from every format, and what is not said is taken off."""

import pytest

from echo.support.errors import DataError
from echo.transcribe.align.texts import READERS, Sentence, read_text

SRT = """1
00:00:01,000 --> 00:00:03,000
<i>Hello</i> you
- ANN: me

2
00:00:04,000 --> 00:00:05,000
[door slams]

3
01:01:04,000 --> 01:01:05,500
{\\an8}♪ la la ♪ the
last one
"""
VTT = """WEBVTT

NOTE nothing

00:01.000 --> 00:03.500
<v Fred Jones>salt &amp; pepper</v>

00:04.000 --> 00:05.000 align:start
<c.yellow>It is</c> yellow.
"""
ASS = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname
Style: Default,Arial

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:01.00,0:00:03.00,Default,Kim,0,0,0,,Hello {\\i1}you{\\i0}\\Nagain
Comment: 0,0:00:01.00,0:00:03.00,Default,,0,0,0,,not said
"""
CTM = """;; a comment
other 1 0.0 0.3 elsewhere
talk 1 0.5 0.3 Hello 0.9
talk 1 0.9 0.3 you.
other 1 0.9 0.3 too
talk 1 1.2 0.3 And
talk 1 3.0 0.5 later
"""


def textgrid(*tiers):
    """A TextGrid, of tiers by their name and intervals."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", "xmax = 9"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for i, (name, intervals) in enumerate(tiers, 1):
        lines += [
            f"item [{i}]:",
            'class = "IntervalTier"',
            f'name = "{name}"',
            "xmin = 0",
            "xmax = 9",
        ]
        lines += [f"intervals: size = {len(intervals)}"]
        for j, (start, end, text) in enumerate(intervals, 1):
            lines += [f"intervals [{j}]:", f"xmin = {start}", f"xmax = {end}", f'text = "{text}"']
    return "\n".join(lines) + "\n"


def read(folder, name, text):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_text(path, "talk")


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One line\nand another", ["One line", "and another"]),
        (
            'He said "no." Then Mr. J. Smith left… And 3.5 days',
            ['He said "no."', "Then Mr. J. Smith left…", "And 3.5 days"],
        ),
        ("<b>It</b> is [noise] so\n(laughs)\n♪ la la ♪\n—", ["It is so"]),
        ("你好。再见。", ["你好。", "再见。"]),
        ("Note: this is said", ["Note: this is said"]),
        ("\ufeffcafé\r\nit", ["café", "it"]),
    ],
)
def test_plain_text_is_cut_into_sentences(tmp_path, text, sentences):
    assert [each.text for each in read(tmp_path, "a.txt", text)] == sentences


def test_names_become_speakers(tmp_path):
    found = read(tmp_path, "a.txt", "- John Smith: hello. It is me\nANN: yes\n>> no\nnobody: here")
    assert [(each.speaker, each.text) for each in found] == [
        ("John Smith", "hello."),
        ("John Smith", "It is me"),
        ("ANN", "yes"),
        (None, "no"),
        (None, "nobody: here"),
    ]


def test_subtitles_have_times_and_speakers(tmp_path):
    assert read(tmp_path, "a.srt", SRT) == [
        Sentence("Hello you", None, 1.0, pytest.approx(1 + 2 * 9 / 11)),
        Sentence("me", "ANN", pytest.approx(1 + 2 * 9 / 11), 3.0),
        Sentence("the last one", None, 3664.0, 3665.5),
    ]
    assert read(tmp_path, "a.vtt", VTT) == [
        Sentence("salt & pepper", "Fred Jones", 1.0, 3.5),
        Sentence("It is yellow.", None, 4.0, 5.0),
    ]
    assert read(tmp_path, "a.ass", ASS) == [Sentence("Hello you again", "Kim", 1.0, 3.0)]
    assert read(tmp_path, "b.srt", SRT.encode("utf-16")) == read(tmp_path, "a.srt", SRT)


def test_words_with_times_are_joined_to_sentences(tmp_path):
    expected = [("Hello you.", 0.5, 1.2), ("And", 1.2, 1.5), ("later", 3.0, 3.5)]
    found = read(tmp_path, "a.ctm", CTM)
    assert [(s.text, s.start, s.end) for s in found] == [
        (t, a, pytest.approx(b)) for t, a, b in expected
    ]
    words = [(0.5, 0.8, "Hello"), (0.9, 1.2, "you."), (1.2, 1.5, "And"), (3, 3.5, "later")]
    grid = textgrid(("words", words), ("phones", [(0.5, 0.6, "h")]))
    found = read(tmp_path, "a.TextGrid", grid)
    assert [(s.text, s.start, s.end, s.speaker) for s in found] == [(*e, None) for e in expected]


def test_channels_of_a_ctm_are_speakers(tmp_path):
    """Whether its lines are in the order of channels, or of time."""
    lines = ["talk A 0.0 1.0 hello", "talk A 4.0 1.0 again", "talk B 0.5 1.0 hi"]
    for order in (lines, sorted(lines, key=lambda line: float(line.split()[2]))):
        found = read(tmp_path, "a.ctm", "\n".join(order))
        assert [(s.text, s.start) for s in found] == [("hello", 0.0), ("hi", 0.5), ("again", 4.0)]


def test_tiers_of_a_textgrid_are_speakers(tmp_path):
    grid = textgrid(("Ann", [(0, 2, "hello you")]), ("Bob", [(1, 3, "hi"), (3, 4, "")]))
    assert read(tmp_path, "a.TextGrid", grid) == [
        Sentence("hello you", "Ann", 0.0, 2.0),
        Sentence("hi", "Bob", 1.0, 3.0),
    ]


BAD = {
    "an unknown suffix": (
        "a.docx",
        "text",
        "a.docx: cannot be aligned; texts end in .txt, .srt",
    ),
    "nothing": ("a.txt", "", "a.txt: holds no words"),
    "only tags": ("a.srt", "1\n00:00:01,000 --> 00:00:02,000\n[music]\n", "a.srt: holds no words"),
    "another encoding": ("a.txt", b"caf\xe9 it", "a.txt: is not UTF-8"),
    "half of UTF-16": ("a.srt", b"\xff\xfea", "a.srt: is not UTF-8"),
    "no subtitles": ("a.srt", "words", "a.srt: holds no subtitles"),
    "no cues": ("a.vtt", "WEBVTT\n", "a.vtt: holds no subtitles"),
    "no events": ("a.ass", "words", "a.ass: holds no subtitles"),
    "an end before its start": (
        "a.srt",
        "1\n00:00:05,000 --> 00:00:02,000\nback\n",
        "a.srt: 'back' is from 5.0 to 2.0 s, which cannot be",
    ),
    "a word without times": ("a.ctm", "talk 1 0.5 hello\n", "a.ctm:1: is not recording, channel"),
    "times that are no numbers": ("a.ctm", "talk 1 0 1 a\ntalk 1 x 1 b\n", "a.ctm:2: is not rec"),
    "infinite times": ("a.ctm", "talk 1 inf 1 a\n", "a.ctm: 'a' is from inf to inf s"),
    "a CTM of others": (
        "a.ctm",
        "b 1 0 1 x\nc 1 0 1 y\n",
        "a.ctm: holds 2 recordings, but not talk",
    ),
    "no TextGrid": (
        "a.TextGrid",
        "words",
        "a.TextGrid: is damaged, or is not a TextGrid file",
    ),
    "half a TextGrid": (
        "a.TextGrid",
        textgrid(("a", [(0, 1, "x")]))[:150],
        "a.TextGrid: is damaged",
    ),
    "only phones": (
        "a.TextGrid",
        textgrid(("phones", [(0, 1, "x")])),
        "a.TextGrid: holds no words",
    ),
}


@pytest.mark.parametrize(("name", "text", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_text_is_refused_in_one_sentence(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message) as refused:
        read(tmp_path, name, text)
    assert "\n" not in str(refused.value)


def test_a_text_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"a\.txt: cannot be read \(No such file or directory\)"):
        read_text(tmp_path / "a.txt", "talk")
    for suffix in READERS:
        (tmp_path / f"folder{suffix}").mkdir()
        with pytest.raises(DataError, match=f"folder{suffix}: "):
            read_text(tmp_path / f"folder{suffix}", "talk")
