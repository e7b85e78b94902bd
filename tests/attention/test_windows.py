"""The window rules, position by position."""

import math

import pytest
import torch

from echo.attention.windows import LEAST, AdaptiveWindow, HardWindow, bias_of, span_temperature

FRAMES = 29
SPANS = (0.02, 0.13, 0.35, 0.5, 0.77, 0.999)


def seen_by(rule, span, length=None):
    positions = torch.arange(FRAMES)
    span = torch.tensor(span, dtype=torch.double)
    length = None if length is None else torch.tensor(length)
    return rule.weights(positions[:, None], positions, span, length)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize(("max_span", "ramp"), [(10, 4), (3, 8), (1, 1)])
def test_a_soft_window_fades_out_beyond_its_span(max_span, ramp, span, causal):
    rule = AdaptiveWindow(max_span, ramp, causal)
    found = seen_by(rule, span)
    for i in range(FRAMES):
        for j in range(FRAMES):
            beyond = max(0.0, abs(i - j) - span * max_span)
            wanted = 0.0 if causal and j > i else max(0.0, 1 - beyond / ramp)
            assert found[i, j].item() == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("length", [FRAMES, 17, 1])
@pytest.mark.parametrize(
    ("max_span", "window", "max_dist"),
    [(12, 7, 100), (12, 12, 12), (9, 6, 6), (20, 3, 3), (12, 9, 4), (7, 9, 100)],
)
def test_a_hard_window_is_cut_as_documented(max_span, window, max_dist, length, span, causal):
    """Window by window of w frames, each of which attends to as many keys as it has queries."""
    found = seen_by(
        HardWindow(max_span, window, max_dist, causal), span, None if causal else length
    )
    wanted = torch.zeros(FRAMES, FRAMES, dtype=torch.double)
    width, scaled = max(1, math.floor(window * span)), math.floor(max_span * span)
    reach, end = max(1, scaled), 10**6 if causal else length
    for start in range(0, FRAMES if causal else length, width):
        first, last = max(0, start - reach + width), min(end, start + reach)
        queries = min(width, end - start)
        extent = min(scaled, queries, last - first, reach, width, max_dist)
        for i in range(start, min(FRAMES, start + extent)):
            for j in range(first, min(FRAMES, first + extent)):
                wanted[i, j] = not causal or j <= i
    rows = FRAMES if causal else length
    assert torch.equal(found[:rows], wanted[:rows])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "kind",
    [
        lambda c: AdaptiveWindow(8, 3, c),
        lambda c: AdaptiveWindow(9, 3, c),
        lambda c: HardWindow(8, 5, 100, c),
    ],
)
def test_nothing_is_seen_beyond_what_the_rule_says_of_itself(kind, causal):
    rule = kind(causal)
    distances = torch.arange(FRAMES)[:, None] - torch.arange(FRAMES)
    seen = torch.stack([seen_by(rule, span, None if causal else FRAMES) > 0 for span in SPANS])
    seen = seen.any(0)
    assert distances[seen].max() <= rule.left
    assert -distances[seen].min() <= rule.right
    if isinstance(rule, AdaptiveWindow):
        assert distances[seen].max() == rule.left  # and all of it with the widest span
        assert -distances[seen].min() == rule.right
    assert rule.may_be_empty == (~seen_by(rule, 0.02, None if causal else FRAMES).any(-1)).any()


@pytest.mark.parametrize("rule", [AdaptiveWindow(8, 3, False), HardWindow(8, 5, 100, False)])
def test_a_stationary_rule_depends_on_the_distance_alone(rule):
    seen = [seen_by(rule, span, FRAMES) for span in SPANS]
    same = [
        bool((diagonal == diagonal[0]).all())
        for found in seen
        for offset in range(-rule.right, rule.left + 1)
        for diagonal in [found.diagonal(-offset)]
    ]
    assert all(same) == rule.stationary


def test_the_bias_is_the_logarithm_and_finite_where_nothing_is_seen():
    weights = torch.tensor([1.0, 0.25, 1e-6, 0.0], dtype=torch.double, requires_grad=True)
    bias = bias_of(weights)
    assert bias.tolist()[:3] == pytest.approx([0, math.log(0.25), math.log(1e-6)])
    assert bias[3] == LEAST
    bias[1:].sum().backward()
    assert weights.grad.tolist() == pytest.approx([0, 4, 1e6, 0])
    assert torch.tensor(LEAST, dtype=torch.float16).isfinite()
    assert math.exp(LEAST) == 0


def test_the_temperature_follows_the_span():
    span = torch.tensor([0.0, 0.4, 1.0])
    assert span_temperature(span, 0.5, False).tolist() == pytest.approx([0.5, 0.7, 1.0])
    assert span_temperature(span, 0.5, True).tolist() == pytest.approx([1.5, 1.3, 1.0])
