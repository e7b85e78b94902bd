"""Curves: what is drawn, rather than how it looks."""

import numpy as np
import pytest

from echo.pilot.curves import draw_curves, log_ticks, mean_line, points


def test_the_mean_line_is_the_mean_where_all_lines_are():
    x, y = mean_line(
        [(np.array([0.0, 10.0]), np.array([0.0, 10.0])), (np.array([5.0, 15]), np.array([1.0, 1]))]
    )
    assert x.tolist() == [5, 10]
    assert y.tolist() == [3, 5.5]


def test_lines_without_common_seconds_have_no_mean():
    x, y = mean_line([(np.array([0.0, 1.0]), np.ones(2)), (np.array([2.0, 3.0]), np.ones(2))])
    assert len(x) == len(y) == 0


@pytest.mark.parametrize(
    ("low", "high"), [(0.1, 100), (0.45, 120), (55, 103), (80, 101), (99, 101)]
)
def test_there_are_round_ticks_in_every_range(low, high):
    ticks = log_ticks(low, high)
    assert all(low <= tick <= high for tick in ticks)
    assert 2 <= len(ticks) <= 12


def test_what_is_zero_is_drawn_on_the_floor():
    events = [{"kind": "eval", "step": 1, "wer": 0.0}, {"kind": "eval", "step": 2, "wer": 0.5}]
    assert points(events, "eval", "step", "wer", 100, 0.1)[1].tolist() == [0.1, 50]


def test_runs_without_an_evaluation_yet_can_be_drawn(tmp_path):
    events = [{"kind": "train", "step": 1, "seconds": 1.0, "loss": 2.0}]
    assert len(draw_curves({"a": [events, events], "b": [[]]}, tmp_path)) == 4
