"""Intervals and certainties against what is known of the data they are drawn from."""

import numpy as np
import pytest

from echo.evaluate.bootstrap import interval, resampled_rates, share_better


def drawn(errors, words, units=None, **settings):
    units = range(len(words)) if units is None else units
    return resampled_rates(np.atleast_2d(errors), np.asarray(words), units, **settings)


def test_the_interval_holds_the_rate_and_narrows_with_more_utterances():
    rng = np.random.default_rng(1)
    widths = []
    for count in (50, 800):
        words = rng.integers(5, 20, count)
        errors = rng.binomial(words, 0.2)
        low, high = interval(drawn(errors, words)[0])
        assert low < errors.sum() / words.sum() < high
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.3)


def speakers_of(rng, speakers, each):
    """Errors in words of utterances whose speakers are unlike: WER 0.2 in the mean."""
    rate = rng.beta(2, 8, speakers).repeat(each)
    words = np.full(speakers * each, 10)
    return rng.binomial(words, rate), words, np.arange(speakers).repeat(each)


def coverage(units_of):
    """How often the interval holds the true WER, in sets of 40 speakers."""
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(200):
        errors, words, speakers = speakers_of(rng, 40, 10)
        low, high = interval(drawn(errors, words, units_of(speakers), resamples=500)[0])
        held += low <= 0.2 <= high
    return held / 200


def test_intervals_hold_the_truth_as_often_as_they_say_where_what_belongs_together_is_one_unit():
    assert 0.9 <= coverage(lambda speakers: speakers.tolist()) <= 0.99
    assert coverage(lambda speakers: range(len(speakers))) < 0.75


def test_models_are_compared_on_the_same_draws():
    """What is hard for both falls out: the order is sure where the rates alone leave it open."""
    rng = np.random.default_rng(3)
    words = np.full(200, 10)
    one = rng.binomial(words, rng.beta(1, 3, 200))
    other = np.maximum(one - rng.binomial(1, 0.2, 200), 0)
    rates = drawn(np.stack([one, other]), words)
    assert interval(rates[0])[0] < interval(rates[1])[1]
    assert interval(rates[1] - rates[0])[1] < 0
    assert share_better(rates[1] - rates[0]) > 0.999
    assert share_better(rates[0] - rates[1]) < 0.001


def test_a_model_does_not_differ_from_itself():
    errors = np.random.default_rng(4).integers(0, 5, 30)
    rates = drawn(np.stack([errors, errors]), np.full(30, 5))
    assert interval(rates[1] - rates[0]) == (0, 0)
    assert share_better(rates[1] - rates[0]) == 0.5


def test_the_same_arguments_give_the_same_numbers(monkeypatch):
    errors, words, speakers = speakers_of(np.random.default_rng(5), 7, 3)
    rates = drawn(errors, words, speakers, resamples=100)
    assert (rates == drawn(errors, words, speakers, resamples=100)).all()
    assert (rates != drawn(errors, words, speakers, resamples=100, seed=1)).any()
    monkeypatch.setattr("echo.evaluate.bootstrap.DRAWN_AT_ONCE", 30)  # which changes nothing
    assert (rates == drawn(errors, words, speakers, resamples=100)).all()


@pytest.mark.parametrize(
    ("errors", "words", "rates"),
    [
        ([1], [4], {0.25}),  # one utterance
        ([0, 0, 0], [4, 5, 6], {0}),
        ([0, 0], [0, 0], {0}),  # empty references, and nothing heard
        ([2, 1], [0, 0], {1}),  # something heard
        ([3, 0], [0, 6], {0, 0.5, 1}),
    ],
)
def test_rates_are_numbers_whatever_is_drawn(errors, words, rates):
    assert set(drawn(errors, words)[0]) == rates
