"""Damaged files: what bit rot, broken transfers, other encodings and malice make of good ones."""

import re
from collections.abc import Callable

from hypothesis import strategies as st

JUNK = (
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"\n\n", b"\r", b'"', b"\\u0000", b"\\ud800"),
    *(b"9" * 5_000, b"[" * 20_000, b'{"a":' * 2_000, b"x" * 140_000, b"\xe9", b"&a [*a]", b"..//"),
)
NUMBERS = (
    *(b"-1", b"0", b"1e999", b"-1e999", b"NaN", b"Infinity", b".nan", b".inf", b"null", b"true"),
    *(b"1e-400", b"9" * 25, b"0x" + b"f" * 40, b"[1]", b"{}", b'""', b"2020-99-99"),
)
WORDS = tuple(  # of a binary header, in either order
    value.to_bytes(size, order)
    for size in (2, 4, 8)
    for value in (0, 1, 2 ** (8 * size - 1) - 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1)
    for order in ("little", "big")
)

Change = Callable[[bytes], bytes]


def flip(place: int, bit: int) -> Change:
    def change(data: bytes) -> bytes:
        at = place % max(1, len(data))
        return data[:at] + bytes(b ^ (1 << bit) for b in data[at : at + 1]) + data[at + 1 :]

    return change


def cut(place: int) -> Change:
    return lambda data: data[: place % (len(data) + 1)]


def put(place: int, junk: bytes, over: bool) -> Change:
    def change(data: bytes) -> bytes:
        at = place % (len(data) + 1)
        return data[:at] + junk + data[at + (len(junk) if over else 0) :]

    return change


def splice(start: int, length: int, to: int) -> Change:
    def change(data: bytes) -> bytes:
        at, target = start % (len(data) + 1), to % (len(data) + 1)
        return data[:target] + data[at : at + length] + data[target:]

    return change


def renumber(which: int, number: bytes) -> Change:
    def change(data: bytes) -> bytes:
        found = list(re.finditer(rb"-?\d+(\.\d+)?", data))
        if not found:
            return data
        start, end = found[which % len(found)].span()
        return data[:start] + number + data[end:]

    return change


places = st.integers(0, 400) | st.integers(0, 1_000_000)
changes = st.one_of(
    st.builds(flip, places, st.integers(0, 7)),
    st.builds(cut, places),
    st.builds(put, places, st.sampled_from(JUNK) | st.binary(max_size=8), st.booleans()),
    st.builds(put, places, st.sampled_from(WORDS), st.just(True)),
    st.builds(splice, places, st.integers(1, 200), places),
    st.builds(renumber, st.integers(0, 100), st.sampled_from(NUMBERS)),
)


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """A file's content after one change or a few."""
    for change in draw(st.lists(changes, min_size=1, max_size=4)):
        good = change(good)
    return good
