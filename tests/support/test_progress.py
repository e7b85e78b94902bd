"""Progress bars: redrawn on a terminal, and a line a minute in a log file."""

import logging
import sys

import pytest
from tqdm.contrib.logging import logging_redirect_tqdm

from echo.support import progress
from echo.support.progress import progress_bar


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is advanced."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def seconds_of(clock, bar, count):
    for _ in range(count):
        clock[0] += 1
        bar.update()
        bar.refresh()  # as tqdm does at every line that is logged


def test_a_log_file_gets_a_line_a_minute_and_one_at_the_end(clock, capsys):
    with progress_bar(total=150, desc="decoding") as bar:
        seconds_of(clock, bar, 150)
        bar.set_postfix(wer=0.5)
    found = capsys.readouterr().err
    assert "\r" not in found
    lines = found.splitlines()
    assert [line.split("|")[-1].split()[0] for line in lines] == ["60/150", "120/150", "150/150"]
    assert all(line.startswith("decoding:") for line in lines)
    assert "wer=0.5" in lines[-1]


def test_a_bar_that_would_vanish_leaves_no_last_line(clock, capsys):
    with progress_bar(total=70, leave=False) as bar:
        seconds_of(clock, bar, 70)
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert [*progress_bar(range(3), shown=False)] == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_what_is_logged_meanwhile_does_not_show_the_bar_again(clock, capsys):
    handler = logging.StreamHandler()
    logging.root.addHandler(handler)
    try:
        with logging_redirect_tqdm(), progress_bar(total=9, leave=False):
            for i in range(5):
                logging.getLogger("echo").warning("line %d", i)
    finally:
        logging.root.removeHandler(handler)
    assert capsys.readouterr().err.splitlines() == [f"line {i}" for i in range(5)]


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress_bar(total=2) as bar:
        bar.update(2)
    assert "\r" in capsys.readouterr().err
