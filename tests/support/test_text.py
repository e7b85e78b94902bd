"""Nothing in a text is obeyed where it is shown."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo.cli.entry import VisibleFormatter
from echo.support.errors import ConfigError
from echo.support.text import (
    distinct,
    escape_markdown,
    natural,
    read_numbers,
    visible,
    visible_lines,
)

EVIL = "\x1b[2Jgone\r\x07 \x9b1m \u202etxt.exe\u2028 \x00\ud800 größer 日本 👩\u200d🚀"


def test_what_a_terminal_obeys_is_spelled_out() -> None:
    assert visible(EVIL) == (
        r"\x1b[2Jgone\r\x07 \x9b1m \u202etxt.exe\u2028 \x00\ud800 größer 日本 👩" + "\u200d🚀"
    )
    assert visible_lines("a\nb\r") == "a\nb\\r"


@given(st.text(st.characters()))
def test_any_text_becomes_one_line_that_can_be_written(text: str) -> None:
    for shown in (visible(text), escape_markdown(text)):
        assert len(shown.encode().splitlines()) <= 1
        assert "\x1b" not in shown
        assert len(shown.splitlines()) <= 1


def test_the_log_is_spelled_out_too() -> None:
    record = logging.LogRecord("echo", logging.WARNING, "", 0, "skipped: %s", (EVIL,), None)
    line = VisibleFormatter("%(levelname)s: %(message)s").format(record)
    assert line == f"WARNING: skipped: {visible(EVIL)}"


def test_numbers_are_read_with_their_kind() -> None:
    assert read_numbers("1, 2,3", "--seeds", int) == [1, 2, 3]
    assert read_numbers("0.5,-1e1", "--snr", float) == [0.5, -10.0]


@pytest.mark.parametrize("text", ["", "1,", "1;2", "1.5"])
def test_a_wrong_number_names_the_option(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--seeds: .* must be whole numbers separated by commas"):
        read_numbers(text, "--seeds", int)


@given(st.lists(st.sampled_from(["a", "A", "a-2", "b", "B-2"]), max_size=8))
def test_distinct_names_differ_whatever_their_case(names: list[str]) -> None:
    found = distinct(names)
    assert len({name.casefold() for name in found}) == len(names)
    assert all(one.startswith(name) for one, name in zip(found, names, strict=True))


def test_numbers_in_names_are_in_order_however_long() -> None:
    names = ["a10", "a9", "a", "b", "a9b", "a" + "9" * 6000, "a\u00b2", "a010c"]
    ordered = ["a", "a9", "a9b", "a10", "a010c", "a" + "9" * 6000, "a\u00b2", "b"]
    assert sorted(names, key=natural) == ordered
