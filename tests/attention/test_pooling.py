import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from echo.attention.global_branch import pool_frames


@settings(max_examples=60, deadline=None)
@given(
    frames=st.integers(1, 60),
    length=st.integers(1, 60),
    stride=st.integers(1, 7),
    most=st.integers(1, 20),
)
def test_each_utterance_is_averaged_as_if_alone(frames, length, stride, most):
    length = min(length, frames)
    x = torch.randn(2, 3, frames, 4)
    averages, seen = pool_frames(x, torch.tensor([length, frames]), stride, most)
    assert averages.shape[2] <= most
    for row, end in enumerate((length, frames)):
        own = max(stride, -(-end // most))
        expected = [x[row, :, i : min(i + own, end)].mean(1) for i in range(0, end, own)]
        assert seen[row].tolist() == [i < len(expected) for i in range(seen.shape[1])]
        found = averages[row, :, : len(expected)]
        torch.testing.assert_close(found, torch.stack(expected, 1), rtol=0, atol=1e-5)
