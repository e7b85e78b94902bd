"""The convolution form, computed anew with plain loops."""

import math

import pytest
import torch

from echo.attention.convolution import ConvolutionAttention, ConvolutionSettings
from echo.attention.maps import attention_maps

DIMS, HEADS, FRAMES = 12, 2, 17


def make_block(causal=False, **changes):
    settings = ConvolutionSettings(**{"max_span": 4, "ramp": 3, **changes})
    block = ConvolutionAttention(settings, DIMS, HEADS, causal).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(std=0.5)
    return block


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("ramp", [3, 1, None])
@pytest.mark.parametrize("values_of", ["shared", "projected"])
def test_a_frame_is_weighted_by_its_distance_within_the_reach(causal, ramp, values_of):
    block = make_block(causal, ramp=ramp, local_input=values_of)
    x = torch.randn(2, FRAMES, DIMS, dtype=torch.double)
    with torch.no_grad():
        branches = block.branches(x)
        value = (block.v_proj if values_of == "shared" else block.local_v_proj)(x)
        found = block(x)[0]
    expected = torch.zeros_like(value)
    for row in range(2):
        total = 0.0
        for i in range(FRAMES):
            if ramp is not None:
                w, b = block.span_predictor.linear.weight[0], block.span_predictor.linear.bias[0]
                heard = branches.global_out[row, : i + 1] if causal else branches.global_out[row]
                total = (heard @ w + b).mean().item()
            scale = 1 / (1 + math.exp(-total))
            for j in range(FRAMES):
                distance = i - j
                if ramp is None:
                    m = float(abs(distance) <= 4)
                else:
                    m = min(1.0, max(0.0, (ramp + scale * 4 - abs(distance)) / ramp))
                farthest = 4 if ramp is None else 4 + ramp - 1
                if m and not (causal and distance < 0):
                    weight = block.kernel[:, farthest - distance]
                    expected[row, i] += m * weight * value[row, j]
    torch.testing.assert_close(branches.local_out, expected)
    joined = branches.global_out + block.local_gain * expected
    torch.testing.assert_close(found, joined @ block.out_proj.weight.T + block.out_proj.bias)


def test_a_map_shows_how_much_each_distance_counts():
    block = make_block(ramp=None)
    with torch.no_grad():
        maps = attention_maps(block, torch.randn(1, FRAMES, DIMS, dtype=torch.double))
    sizes = block.kernel.detach().abs().reshape(HEADS, DIMS // HEADS, -1).mean(1)
    for head in range(HEADS):
        row = maps.local[0, head, 8]  # a frame with as many to both sides
        assert (row[:4] == 0).all()
        assert (row[13:] == 0).all()
        torch.testing.assert_close(row[4:13], (sizes[head] / sizes[head].sum()))


def test_shared_values_need_no_projection():
    own = {name for name, _ in make_block().named_parameters()}
    shared = {name for name, _ in make_block(local_input="shared").named_parameters()}
    assert own - shared == {"local_v_proj.weight", "local_v_proj.bias"}


def test_a_fixed_reach_has_no_predictor():
    """It would have no effect, and DDP would wait for its gradient."""
    assert make_block(ramp=3).learns_span
    block = make_block(ramp=None)
    assert not block.learns_span
    assert not any("span" in name for name, _ in block.named_parameters())
