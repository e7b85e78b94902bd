"""Intervals and certainties against what is known of the data they are drawn from."""

from itertools import chain

import numpy as np
import pytest

from echo.evaluate.statistics import (
    bootstrap,
    interval,
    resampled_deviations,
    resampled_rates,
    share_better,
)


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
    monkeypatch.setattr("echo.evaluate.statistics.DRAWN_AT_ONCE", 30)  # which changes nothing
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


def test_trainings_are_drawn_beside_utterances_as_a_slow_loop_draws_them():
    """The same trainings for all models, by their rates on all utterances."""
    rng = np.random.default_rng(6)
    words = rng.integers(1, 9, 12)
    errors = rng.integers(0, 5, (2, 3, 12))
    units = list("aabbbcdeefgg")
    by_training = errors.sum(2) / words.sum()
    found = drawn(errors.sum(1), 3 * words, units, resamples=6000)
    found = found + resampled_deviations(by_training, 6000)

    names = sorted(set(units))
    of = {name: [i for i, unit in enumerate(units) if unit == name] for name in names}
    slow = np.zeros((2, 6000))
    for resample in range(6000):
        utterances = [i for name in rng.choice(names, len(names)) for i in of[name]]
        trainings = rng.integers(3, size=3)
        # A chi-squared draw of two degrees of freedom.
        spread = np.sqrt(3 / (rng.standard_normal() ** 2 + rng.standard_normal() ** 2))
        for model in range(2):
            rate = sum(errors[model, t, i] for t in range(3) for i in utterances) / 3
            rate /= sum(words[i] for i in utterances)
            moved = by_training[model, trainings].mean() - by_training[model].mean()
            slow[model, resample] = rate + spread * moved
    for one, other in ((found[0], slow[0]), (found[1] - found[0], slow[1] - slow[0])):
        assert np.median(one) == pytest.approx(np.median(other), abs=0.02)
        for quantile in (0.025, 0.25, 0.75, 0.975):
            assert np.quantile(one, quantile) == pytest.approx(
                np.quantile(other, quantile), abs=0.03
            )


def test_trainings_that_are_alike_add_nothing():
    rng = np.random.default_rng(7)
    words, errors = rng.integers(1, 9, 30), rng.integers(0, 4, (2, 30))
    expected = bootstrap(errors, words, range(30))
    assert bootstrap(errors[:, None], words, range(30)) == expected
    found = bootstrap(errors[:, None].repeat(3, 1), words, range(30))
    for one, other in zip(chain(*expected), chain(*found), strict=True):
        assert other.value == pytest.approx(one.value)
        assert other.interval == pytest.approx(one.interval)


def test_trainings_that_differ_widen_the_interval_which_ends_at_0():
    words = np.full(400, 10)
    errors = np.random.default_rng(8).binomial(10, np.array([[0.1], [0.2], [0.3]]), (3, 400))[None]
    [rate], _ = bootstrap(errors, words, range(400))
    [mean], _ = bootstrap(errors.sum(1), 3 * words, range(400))
    assert rate.interval[0] == 0
    assert rate.interval[1] - rate.value > 5 * (mean.interval[1] - mean.value)


@pytest.mark.parametrize("noise", [0, 300])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_hold_the_truth_as_often_as_they_say_with_few_seeds(seeds, noise):
    """Two models differ by 0.05 errors a word in the mean over all seeds, and with each seed by
    equally much in all utterances but for noise."""
    rng = np.random.default_rng(9)
    words, held = np.full(40, 1000), 0
    for _ in range(300):
        more = 50 + 10 * rng.standard_normal((seeds, 1)) + noise * rng.standard_normal((seeds, 40))
        errors = np.stack([np.full((seeds, 40), 2000), np.rint(2000 + more).astype(int)])
        _, [_, gap] = bootstrap(errors, words, range(40), resamples=500)
        held += gap.interval[0] <= 0.05 <= gap.interval[1]
    assert 0.9 <= held / 300 <= (1 if noise else 0.98)


def test_sets_share_the_draws_of_seeds():
    """Else what is common to all sets would fall out of their mean."""
    errors = np.tile(np.array([[[2000] * 20] * 3, [[2030] * 20, [2050] * 20, [2070] * 20]]), 4)
    words, sets = np.full(80, 1000), list("abcd" * 20)
    _, [_, gap] = bootstrap(errors, words, range(80), sets=sets)
    _, [_, one] = bootstrap(errors[..., :20], words[:20], range(20))
    assert gap.interval == pytest.approx(one.interval)


def test_the_rate_of_several_sets_is_the_mean_of_theirs():
    """By a simulation of its own, in which each set is drawn from by itself."""
    rng = np.random.default_rng(3)
    words = rng.integers(1, 12, 90)
    errors = np.minimum(rng.integers(0, 5, (2, 90)), words)
    sets = ["a"] * 80 + ["b"] * 10
    [_, other], [_, gap] = bootstrap(errors, words, range(90), sets=sets)
    parts = [slice(0, 80), slice(80, 90)]
    means = [errors[1, part].sum() / words[part].sum() for part in parts]
    assert other.value == pytest.approx(np.mean(means))
    drawn = []
    for _ in range(4000):
        rates = []
        for size, start in ((80, 0), (10, 80)):
            chosen = start + rng.integers(size, size=size)
            rates.append(errors[:, chosen].sum(1) / words[chosen].sum())
        drawn.append(np.mean(rates, axis=0))
    drawn = np.array(drawn)
    ends = np.quantile(drawn[:, 1] - drawn[:, 0], [0.025, 0.975])
    assert gap.interval == pytest.approx(ends, abs=0.02)
    one = bootstrap(errors, words, range(90), sets=["a"] * 90)
    assert one == bootstrap(errors, words, range(90))
    assert bootstrap(errors, words, range(90), sets=["a"] * 89 + ["b"])[0][0].interval is None
