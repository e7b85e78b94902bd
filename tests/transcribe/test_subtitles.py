"""Cues fit on a screen, hold the whole text, and come when it is said."""

from itertools import pairwise

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from echo.transcribe.subtitles import Layout, as_cues
from echo.transcribe.transcript import Segment, Transcript, Word

texts = st.lists(
    st.text(st.characters(exclude_categories=["Cc", "Cs", "Z"]), min_size=1, max_size=60),
    min_size=1,
    max_size=30,
).map(" ".join)
layouts = st.builds(Layout, st.integers(1, 50), st.integers(1, 3))


def cues(segment, layout=None):
    return as_cues(Transcript(1e3, (segment,), "en"), layout or Layout()).segments


@given(texts, layouts)
def test_cues_fit_and_hold_the_whole_text_in_proportion(text, layout):
    found = cues(Segment(10.0, 30.0, text), layout)
    lines = [cue.text.split("\n") for cue in found]
    assert all(len(cue) <= layout.line_count for cue in lines)
    assert all(0 < len(line) <= layout.line_width for cue in lines for line in cue)
    assert (found[0].start, found[-1].end) == (10.0, 30.0)
    assert all(one.end <= other.start for one, other in pairwise(found))
    at = 0
    for cue in found:
        at += text[at:].startswith(" ")
        assert cue.start == pytest.approx(10.0 + 20.0 * at / len(text))
        for letter in regex.sub(r"\s", "", cue.text):
            at += text[at:].startswith(" ")
            assert text[at] == letter
            at += 1
        assert cue.end == pytest.approx(10.0 + 20.0 * at / len(text))
    assert at == len(text)


def test_cues_are_cut_where_words_are_said():
    """The first half is slow and the second fast, with a pause between them."""
    said = [f"word{i}" for i in range(10)]
    starts = [float(i) for i in range(5)] + [20 + 0.1 * i for i in range(5)]
    ends = [s + 0.9 for s in starts[:5]] + [s + 0.1 for s in starts[5:]]
    words = tuple(map(Word, starts, ends, said))
    found = cues(Segment(0.0, 20.5, " ".join(said), words), Layout(line_width=30, line_count=1))
    assert [cue.text.split() for cue in found] == [said[:5], said[5:]]
    assert [(cue.start, cue.end) for cue in found] == [(0.0, 4.9), (20.0, 20.5)]


def test_a_short_segment_stays_as_it_is_and_lines_break_at_spaces():
    assert cues(Segment(1.0, 2.0, "one two")) == (Segment(1.0, 2.0, "one two"),)
    text = "the quick brown fox jumps over the lazy dog and runs away from the hounds"
    (cue,) = cues(Segment(1.0, 2.0, text))
    assert cue.text == (
        "the quick brown fox jumps over the lazy\ndog and runs away from the hounds"
    )


def test_text_without_spaces_is_broken_between_letters():
    text = "ที่นี่ดีมากและมีน้ำใจ" * 6
    lines = [line for cue in cues(Segment(0.0, 9.0, text)) for line in cue.text.split("\n")]
    letters = regex.findall(r"\X", text)
    assert [letter for line in lines for letter in regex.findall(r"\X", line)] == letters
    assert len(lines) == -(-len(text) // 42)
