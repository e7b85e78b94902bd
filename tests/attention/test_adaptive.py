"""The adaptive form, computed anew with plain loops and numpy: what the span, the temperature,
the window and the gain make of an input."""

import math

import numpy as np
import pytest
import torch

from echo.attention.adaptive import AdaptiveAttention, AdaptiveSettings
from echo.attention.global_branch import MultiHeadAttention
from echo.attention.maps import attention_maps

DIMS, HEADS, FRAMES = 12, 2, 23
WIDTH = DIMS // HEADS
SETTINGS = {
    "by default": {},
    "a temperature that follows the span": {"temp_scale": 0.9},
    "sharper for longer": {"temp_scale": 0.9, "sharpen_longer": True},
    "a learned temperature": {"temperature": "learned"},
    "a span per head": {"span_per_head": True, "temp_scale": 0.4},
    "a wide edge": {"max_span": 3, "ramp": 9},
    "no edge": {"max_span": 6, "ramp": 1},
    "a bias by distance": {"relative_bias": True},
    "over the input": {"local_input": "input"},
    "projected": {"local_input": "projected"},
    "more heads": {"local_input": "projected", "local_heads": 6, "span_per_head": True},
    "heads at offsets": {"local_input": "projected", "local_heads": 4, "first_offset": 3},
    "by distance": {
        "local_input": "projected",
        "local_heads": 6,
        "first_offset": 4,
        "local_scores": "distance",
    },
}


def make_block(causal=False, dropout=0.0, **changes):
    """In double precision, with a span and a temperature that differ between utterances and heads,
    and a local branch that counts."""
    settings = AdaptiveSettings(**{"max_span": 6, "ramp": 3, **changes})
    block = AdaptiveAttention(settings, DIMS, HEADS, causal, dropout).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(std=0.5)
        block.span_predictor.linear.weight.normal_(std=0.3)
        block.span_predictor.linear.bias.normal_(std=0.1)
        if settings.temperature == "learned":
            block.log_temperature.copy_(torch.tensor([-3.0, 0.4]))
    return block


def softmax(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def by_hand(block, x, causal):
    """What the block makes of one utterance (T, D), one position and head after the other."""
    settings = block.settings
    given = {name: weight.detach().numpy() for name, weight in block.state_dict().items()}

    def linear(name, values):
        return values @ given[f"{name}.weight"].T + given.get(f"{name}.bias", 0)

    query, key, value = (linear(name, x) for name in ("q_proj", "k_proj", "v_proj"))
    if settings.local_input == "shared":
        asked, looked_at, taken = query, key, value
    elif settings.local_input == "input":
        asked, looked_at, taken = x, x, x
    elif settings.local_scores == "distance":
        asked, looked_at, taken = 0 * x, 0 * x, linear("local_v_proj", x)
    else:
        names = ("local_q_proj", "local_k_proj", "local_v_proj")
        asked, looked_at, taken = (linear(name, x) for name in names)
    heads = settings.local_heads or HEADS
    width = DIMS // heads

    T = len(x)
    attended = np.zeros((T, DIMS))
    for h in range(HEADS):
        own = slice(h * WIDTH, (h + 1) * WIDTH)
        for i in range(T):
            seen = range(i + 1) if causal else range(T)
            scores = np.array([query[i, own] @ key[j, own] / math.sqrt(WIDTH) for j in seen])
            attended[i, own] = softmax(scores) @ value[list(seen)][:, own]

    local = np.zeros((T, DIMS))
    for i in range(T):
        heard = attended[: i + 1] if causal else attended
        logits = linear("span_predictor.linear", heard.mean(0))
        spans = np.resize(1 / (1 + np.exp(-logits)), heads)
        for h in range(heads):
            own, span = slice(h * width, (h + 1) * width), spans[h]
            if settings.temperature == "learned":
                temperature = 0.25 + 0.75 * math.exp(given["log_temperature"][h])
            elif settings.sharpen_longer:
                temperature = 1 + settings.temp_scale * (1 - span)
            else:
                temperature = 0.5 + settings.temp_scale * span
            total, found = 0.0, np.zeros(width)
            for j in range(T):
                if causal and j > i:
                    continue
                reach = span * settings.max_span  # all of it is seen, and the edge fades beyond
                m = min(1.0, max(0.0, 1 - (abs(i - j) - reach) / settings.ramp))
                score = asked[i, own] @ looked_at[j, own] / math.sqrt(width) / temperature
                if "relative_bias" in given and m > 0:
                    furthest = settings.max_span + settings.ramp - 1
                    place = i - j + (0 if causal else furthest)
                    score += given["relative_bias"][h, place]
                total += m * math.exp(score)
                found += m * math.exp(score) * taken[j, own]
            local[i, own] = found / total
    return linear("out_proj", attended + given["local_gain"] * local)


@pytest.mark.parametrize("causal", [False, True], ids=["encoder", "decoder"])
@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS.keys())
def test_the_block_is_its_formula(changes, causal):
    block = make_block(causal, **changes)
    x = torch.randn(2, FRAMES, DIMS, dtype=torch.double)
    with torch.no_grad():
        found, spans = block(x)
    heads = block.settings.local_heads or HEADS
    assert spans.shape[1] == (heads if block.settings.span_per_head else 1)
    assert spans.std() > 0.005  # or the span would say nothing
    assert 0.05 < spans.median() < 0.95
    for row in range(2):
        np.testing.assert_allclose(found[row], by_hand(block, x[row].numpy(), causal), atol=1e-9)


@pytest.mark.parametrize("changes", [{}, {"sharpen_longer": True}], ids=["shorter", "longer"])
def test_the_span_learns_by_its_window_and_by_its_temperature(changes):
    """Its gradient is the difference quotient of the whole, to which both contribute."""
    block = make_block(temp_scale=0.9, ramp=5, **changes)
    x = torch.randn(1, FRAMES, DIMS, dtype=torch.double)
    block(x)[0].sin().sum().backward()
    bias = block.span_predictor.linear.bias
    step, sums = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            bias += sign * step
            sums.append(np.sin(by_hand(block, x[0].numpy(), causal=False)).sum())
            bias -= sign * step
    assert bias.grad.item() == pytest.approx((sums[0] - sums[1]) / (2 * step), rel=1e-5)


def test_a_learned_temperature_stays_above_a_quarter():
    block = make_block(temperature="learned")
    with torch.no_grad():
        block.log_temperature.copy_(torch.tensor([-50.0, 0.0]))
    assert block.temperature(torch.rand(1, 1, 1)).flatten().tolist() == [0.25, 1.0]


def test_a_decoder_predicts_each_span_from_its_own_past():
    """Position by position, and with a prediction that no later position changes."""
    block = make_block(causal=True)
    x = torch.randn(1, FRAMES, DIMS, dtype=torch.double)
    with torch.no_grad():
        spans = block(x)[1][0, 0]
        attended = block.branches(x).global_out[0].numpy()
    weight = block.span_predictor.linear.weight.detach().numpy()[0]
    bias = block.span_predictor.linear.bias.item()
    for t in range(FRAMES):
        mean = sum(attended[i] @ weight for i in range(t + 1)) / (t + 1)
        assert spans[t].item() == pytest.approx(1 / (1 + math.exp(-mean - bias)), abs=1e-12)


def test_attention_dropout_drops_weights_in_training_alone():
    """A value of ones and zeros shows the weights themselves: each is either left out or grows by
    what the others lose."""
    branch = MultiHeadAttention(AdaptiveSettings(), 64, 1, dropout=0.25)
    query, key = torch.randn(2, 1, 1, 64, 64)
    shown = torch.eye(64)[None, None]
    whole = torch.softmax(query @ key.mT / 8, -1)[0]

    found = branch.eval().attend(query, key, shown, None, causal=False)
    torch.testing.assert_close(found, whole)
    found = branch.train().attend(query, key, shown, None, causal=False)
    kept = found > 0
    assert kept.float().mean() == pytest.approx(0.75, abs=0.03)
    torch.testing.assert_close(found, torch.where(kept, whole / 0.75, 0.0))


@pytest.mark.parametrize(("dims", "heads"), [(24, 5), (24, 7), (10, 4)])
def test_dimensions_that_do_not_divide_into_heads_are_refused(dims, heads):
    with pytest.raises(ValueError, match=f"{dims} dimensions do not divide into {heads} heads"):
        MultiHeadAttention(AdaptiveSettings(), dims, heads)


def test_rotary_positions_are_refused_in_heads_of_odd_width():
    with pytest.raises(ValueError, match="rotary_base needs heads of even width, not 3"):
        MultiHeadAttention(AdaptiveSettings(rotary_base=100.0), 6, 2)
    MultiHeadAttention(AdaptiveSettings(), 6, 2)  # which has no such positions


def test_gains_of_either_sign_count_and_the_gain_shown_keeps_no_graph():
    block = make_block()
    with torch.no_grad():
        block.local_gain.copy_(torch.tensor([-1.0, 2.0] * (DIMS // 2)))
    assert block.gain().item() == 1.5
    assert not block.gain().requires_grad


@pytest.mark.parametrize(("causal", "distances"), [(False, 2 * (6 + 3 - 1) + 1), (True, 6 + 3)])
def test_there_is_a_bias_for_each_distance_in_reach_and_no_other(causal, distances):
    block = make_block(causal, relative_bias=True)
    assert block.relative_bias.shape == (HEADS, distances)


@pytest.mark.parametrize("causal", [False, True], ids=["encoder", "decoder"])
def test_heads_begin_at_offsets_that_are_spread_evenly(causal):
    """With keys that are all alike, a head's weights are largest at its offset."""
    settings = AdaptiveSettings(
        max_span=12, local_input="projected", local_heads=3, first_offset=4, local_scores="distance"
    )
    block = AdaptiveAttention(settings, DIMS, HEADS, causal)
    maps = attention_maps(block, torch.randn(1, 41, DIMS)).local
    offsets = 20 - maps[0, :, 20].argmax(-1)  # how far back the query in the middle looks
    assert offsets.tolist() == ([0, 2, 4] if causal else [-4, 0, 4])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"local_heads": 4}, "local_heads needs local_input"),
        ({"local_scores": "distance", "first_offset": 4}, "local_scores: distance needs"),
        ({"local_scores": "distance", "local_input": "projected"}, "and a first_offset"),
        (
            {
                "local_scores": "distance",
                "local_input": "projected",
                "first_offset": 4,
                "temperature": "learned",
            },
            "temperature: learned has no effect",
        ),
    ],
)
def test_settings_without_an_effect_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        AdaptiveSettings(**changes)


def test_heads_must_divide_the_width():
    settings = AdaptiveSettings(local_input="projected", local_heads=5)
    with pytest.raises(ValueError, match="12 dimensions do not divide into 5 local_heads"):
        AdaptiveAttention(settings, DIMS, HEADS)
