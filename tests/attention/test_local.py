"""The local branch: both implementations against a plain formula, and their gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from echo.attention.autograd import biased_attention
from echo.attention.flex import local_attention_flex
from echo.attention.local import block_band, dense_band, distance_attention, local_attention
from echo.attention.windows import AdaptiveWindow, HardWindow, Window


def by_the_formula(query, key, value, rule, span, valid, lengths, relative=None):
    """m_ij · exp(q_i · k_j + b_{i - j}), normalised; zeros where a query sees nothing."""
    positions = torch.arange(key.shape[2])
    length = None if lengths is None else lengths[:, None, None, None]
    weights = rule.weights(positions[:, None], positions, span[..., None], length)
    weights = weights * valid[:, None, None] * torch.exp(query @ key.mT)
    if relative is not None:
        b = torch.zeros(relative.shape[0], len(positions), len(positions), dtype=relative.dtype)
        for i in range(len(positions)):
            for j in range(max(0, i - rule.left), min(len(positions), i + rule.right + 1)):
                b[:, i, j] = relative[:, i - j + rule.right]
        weights = weights * b.exp()
    total = weights.sum(-1, keepdim=True)
    return weights @ value / total.masked_fill(total == 0, 1)


def draw(frames, heads=2, d=4, spans=1, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def new(*shape):
        x = torch.randn(*shape, dtype=torch.double, generator=generator)
        return x.requires_grad_()

    span = torch.rand(2, 1, spans, dtype=torch.double, generator=generator).requires_grad_()
    lengths = torch.tensor([frames, max(1, 2 * frames // 3)])
    valid = torch.arange(frames) < lengths[:, None]
    qkv = [new(2, heads, frames, d) for _ in range(3)]
    return *qkv, span, valid, lengths


@settings(max_examples=60, deadline=None)
@given(
    frames=st.integers(1, 70),
    max_span=st.integers(1, 12),
    narrower=st.integers(0, 11),
    ramp=st.integers(1, 6),
    hard=st.booleans(),
    causal=st.booleans(),
    biased=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_both_layouts_follow_the_formula(
    frames, max_span, narrower, ramp, hard, causal, biased, seed
):
    rule = (
        HardWindow(max_span, max(1, max_span - narrower), 100, causal)
        if hard
        else AdaptiveWindow(max_span, ramp, causal)
    )
    query, key, value, span, valid, lengths = draw(frames, spans=frames if causal else 1, seed=seed)
    ends = None if causal else lengths
    relative = torch.randn(2, rule.left + 1 + rule.right, dtype=torch.double).requires_grad_()
    relative = relative if biased else None
    expected = by_the_formula(query, key, value, rule, span, valid, ends, relative)
    inputs = [query, key, value] + ([] if hard else [span]) + ([relative] if biased else [])
    seen = valid[:, None, :, None]
    expected_gradients = torch.autograd.grad((expected * seen).sin().sum(), inputs)
    window = Window(rule, span, valid, ends, relative)
    for band in (dense_band(frames, key, value, window), block_band(key, value, window)):
        found = band.attend(query)
        torch.testing.assert_close(found * seen, expected * seen, rtol=0, atol=1e-10)
        gradients = torch.autograd.grad((found * seen).sin().sum(), inputs)
        for gradient, wanted in zip(gradients, expected_gradients, strict=True):
            torch.testing.assert_close(gradient, wanted, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("frames", [40, 100], ids=["dense", "blocks"])
def test_a_decoders_windows_are_counted_from_each_sequences_start(frames):
    query, key, value, span, _, _ = draw(frames, spans=frames)
    starts = torch.tensor([13, 0])
    rule = HardWindow(12, 9, 100, causal=True)
    window = Window(rule, span, torch.arange(frames) >= starts[:, None], starts=starts)
    found = local_attention(query, key, value, window)
    for row, start in enumerate(starts.tolist()):
        own = slice(row, row + 1), slice(None), slice(start, None)
        real = torch.ones(1, frames - start, dtype=torch.bool)
        alone = query[own], key[own], value[own], rule, span[own], real, None
        torch.testing.assert_close(found[own], by_the_formula(*alone), rtol=0, atol=1e-10)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("rule", [AdaptiveWindow(20, 6, False), HardWindow(20, 12, 100, False)])
@pytest.mark.parametrize("spans", [1, 2])
@pytest.mark.parametrize("biased", [False, True])
def test_flex_attention_equals_the_bands(rule, spans, biased):
    """On the CPU flex_attention has no backward, but its forward is the compiled kernel's."""
    query, key, value, _, valid, lengths = (x.detach() for x in draw(300, d=16))
    span = torch.tensor([[[0.01], [0.6]], [[0.9], [0.3]]]).double()[:, :spans]
    relative = torch.randn(2, rule.left + 1 + rule.right).double() if biased else None
    window = Window(rule, span, valid, lengths, relative)
    expected = block_band(key, value, window).attend(query)
    found = local_attention_flex(query, key, value, window)
    seen = valid[:, None, :, None]
    torch.testing.assert_close(found * seen, expected * seen, rtol=0, atol=1e-10)


def test_gradients_of_biased_attention_are_right():
    shapes = ((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 5), (2, 1, 4, 6))
    inputs = [torch.randn(s, dtype=torch.double, requires_grad=True) for s in shapes]
    assert torch.autograd.gradcheck(biased_attention, inputs)


@pytest.mark.parametrize("causal", [False, True])
def test_a_hard_window_too_short_for_any_frame_gives_zeros(causal):
    query, key, value, _, valid, lengths = draw(9)
    span = torch.full((2, 1, 1), 0.01, dtype=torch.double)  # floor(10 · 0.01) = 0 frames
    rule = HardWindow(10, 10, 100, causal)
    window = Window(rule, span, valid, None if causal else lengths)
    out = local_attention(query, key, value, window)
    assert (out == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_does_not_overflow_on_long_input(dtype):
    query, key, value = (
        (30 * torch.randn(1, 2, 3000, 8)).to(dtype).requires_grad_() for _ in range(3)
    )
    span = torch.tensor([[[0.7]]], requires_grad=True)
    out = local_attention(query, key, value, Window(AdaptiveWindow(32, 8, False), span))
    out.float().sum().backward()
    for tensor in (out, query.grad, key.grad, value.grad, span.grad):
        assert torch.isfinite(tensor).all()


def test_weights_by_distance_in_half_precision_are_those_in_double():
    """On a CPU too, where such a convolution may never end."""
    value = torch.randn(2, 3, 200, 8, dtype=torch.double)
    rule = AdaptiveWindow(6, 2, False)
    bias = torch.randn(3, rule.left + rule.right + 1, dtype=torch.double)
    span = torch.full((2, 1, 1), 0.8, dtype=torch.double)
    expected = distance_attention(value, Window(rule, span, relative_bias=bias))
    window = Window(rule, span.half(), relative_bias=bias.half())
    found = distance_attention(value.half(), window)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=0.01)


def test_the_span_decides_how_far_a_query_looks():
    """With equal scores, the weight on a distant key appears only once the span reaches it."""
    T, far = 41, 10
    zeros = torch.zeros(1, 1, T, 1)
    value = torch.zeros(1, 1, T, 1)
    value[0, 0, 20 + far] = 1
    rule = AdaptiveWindow(max_span=16, ramp=2, causal=False)
    heard = [
        local_attention(zeros, zeros, value, Window(rule, torch.full((1, 1, 1), s)))[
            0, 0, 20
        ].item()
        for s in (0.1, 0.4, 0.7, 0.95)
    ]
    assert heard[0] == heard[1] == 0
    assert 0 < heard[3] < heard[2]
