"""Shift and drift are found among places that are wrong, or it is said that there are none."""

from types import SimpleNamespace

import numpy as np
import pytest

from echo.transcribe.align.texts import Sentence
from echo.transcribe.align.timing import fit_clock, same_places, windows


@pytest.mark.parametrize(("shift", "rate"), [(0, 1), (-40, 1), (12, 25 / 23.976), (3600, 24 / 25)])
def test_shift_and_drift_are_found(shift, rate):
    rng = np.random.default_rng(0)
    told = rng.uniform(0, 5000, 120)
    real = shift + rate * told + rng.normal(0, 0.2, len(told))
    real[:40] = rng.uniform(0, 9000, 40)
    clock = fit_clock([*zip(told, real, strict=True)])
    assert clock.rate == pytest.approx(rate, abs=2e-4)
    assert clock.shift == pytest.approx(shift, abs=0.5)


def test_of_a_minute_only_the_shift_is_estimated():
    told = np.linspace(0, 50, 20)
    assert fit_clock([*zip(told, told * 1.01 + 5, strict=True)]).rate == 1


def test_times_that_fit_nowhere_are_refused():
    rng = np.random.default_rng(0)
    assert (
        fit_clock([*zip(rng.uniform(0, 5000, 100), rng.uniform(0, 5000, 100), strict=True)]) is None
    )
    assert fit_clock([(1.0, 1.0)] * 7) is None  # too few
    assert fit_clock([]) is None


def test_only_runs_that_a_text_has_once_are_places():
    text = [(word, float(i)) for i, word in enumerate("abcdeabcfg")]
    heard = [(word, 10.0 + i) for i, word in enumerate("xabcde")]
    assert same_places(text, heard) == [(2.0, 13.0), (3.0, 14.0)]


def test_a_window_holds_all_of_a_turn_in_which_another_speaker_says_something():
    recording = SimpleNamespace(
        seconds=60.0, listen=lambda *_: None, quietest=lambda start, end: (start + end) / 2
    )
    times = [(2, 14), (4, 5), (20, 24), (22, 23), (30, 42), (31, 32)]
    sentences = [Sentence("words", None, *each) for each in times]
    found = [*windows(recording, sentences, 30.0)]
    assert [i for each in found for i in range(each.first, each.last)] == [*range(6)]
    for each in found:
        for start, end in times[each.first : each.last]:
            assert each.start <= start < end <= each.end
