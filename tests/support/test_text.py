"""Nothing in a text is obeyed where it is shown."""

import logging

from hypothesis import given
from hypothesis import strategies as st

from echo.cli.entry import VisibleFormatter
from echo.support.text import escape_markdown, visible, visible_lines

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
