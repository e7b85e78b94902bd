"""Cuts a transcript's segments into cues that can be read on a screen."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import regex

from echo.transcribe.transcript import Segment, Transcript, Word

Span = tuple[int, int]  # of characters in a text


@dataclass(frozen=True)
class Layout:
    """How much text is on the screen at once."""

    line_width: int = 42  # characters in a line, at most
    line_count: int = 2  # lines in a cue, at most


def as_cues(transcript: Transcript, layout: Layout) -> Transcript:
    """The transcript with a segment for each cue, whose text has a line for each of the cue's."""
    cues = (cue for segment in transcript.segments for cue in cut(segment, layout))
    return replace(transcript, segments=tuple(cues))


def cut(segment: Segment, layout: Layout) -> Iterator[Segment]:
    """The cues of a segment: cut at the times of words where they are known, and else in
    proportion to characters."""
    lines = break_lines(segment.text, layout.line_width)
    timed = place_words(segment)
    start = segment.start
    for first in range(0, len(lines), layout.line_count):
        cue = lines[first : first + layout.line_count]
        if first > 0:
            place = cue[0][0]
            start = max(start, at(next((t for t in timed if place < t[0][1]), timed[-1]), place))
        end, place = segment.end, cue[-1][1]
        if cue[-1] != lines[-1]:
            end = at(next((t for t in reversed(timed) if t[0][0] < place), timed[0]), place)
        end = max(start, end)
        yield Segment(start, end, "\n".join(segment.text[a:b] for a, b in cue))
        start = end


def break_lines(text: str, width: int) -> list[Span]:
    """Lines of at most so many characters, broken at spaces; what is longer than a line is broken
    between letters."""
    lines: list[Span] = []
    for start, end in pieces(text, width):
        if lines and end - lines[-1][0] <= width:
            lines[-1] = (lines[-1][0], end)
        else:
            lines.append((start, end))
    return lines


def pieces(text: str, width: int) -> Iterator[Span]:
    """What stays together: words, and the letters of a word that is longer than a line."""
    for word in regex.finditer(r"\S+", text):
        if len(word[0]) <= width:
            yield word.span()
            continue
        for letter in regex.finditer(r"\X", text, pos=word.start(), endpos=word.end()):
            for start in range(letter.start(), letter.end(), width):  # marks can be many
                yield start, min(start + width, letter.end())


def place_words(segment: Segment) -> list[tuple[Span, Word]]:
    """The words with their places in the text; a text without times of words is taken for one."""
    found: list[tuple[Span, Word]] = []
    end = 0
    for word in segment.words or ():
        start = segment.text.find(word.text, end)
        if start >= 0:
            end = start + len(word.text)
            found.append(((start, end), word))
    whole = (0, len(segment.text)), Word(segment.start, segment.end, segment.text)
    return found or [whole]


def at(timed: tuple[Span, Word], place: int) -> float:
    """When a word is said as far as a place in the text."""
    (first, last), word = timed
    share = (place - first) / (last - first)
    return word.start + min(max(share, 0.0), 1.0) * (word.end - word.start)
