"""The geometry of audio: what is counted agrees with what is computed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from echo.data.features import log_mel
from echo.model.geometry import (
    FRAMES_PER_SECOND,
    SAMPLE_RATE,
    Limits,
    encoder_frames,
    encoder_lengths,
    feature_frames,
)


@pytest.mark.parametrize("samples", [1, 159, 160, 161, 16_000, 16_001])
def test_frames_are_those_of_features_and_convolution(samples):
    features = log_mel(torch.randn(samples), 80)
    assert feature_frames(samples) == features.shape[1]
    convolution = torch.nn.Conv1d(80, 4, 3, stride=2, padding=1)  # Whisper's second
    assert encoder_frames(features.shape[1]) == convolution(features).shape[1]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_valid_frames_do_not_depend_on_padding(lengths):
    mask = torch.arange(41) < torch.tensor(lengths)[:, None]
    assert encoder_lengths(mask.long()).tolist() == [encoder_frames(n) for n in lengths]


@given(
    st.integers(1, 5000),
    st.sampled_from([0.0, 5.0, 30.0]),
    st.sampled_from([0.0, 0.5, 2.0]),
    st.sampled_from([100, 2000, 3000]),
)
def test_silence_is_the_same_in_samples_and_frames(frames, pad_to, added, most):
    """As wide as both settings ask for and the encoder takes, and never less than the audio."""
    limits = Limits(80, most, 10, pad_to, added)
    padded = limits.padded(frames, FRAMES_PER_SECOND)
    assert limits.padded(frames * 160) == padded * 160
    wanted = max(frames + added * 100, pad_to * 100)
    assert padded == (frames if frames > most else min(wanted, most))
    assert SAMPLE_RATE == 160 * FRAMES_PER_SECOND
