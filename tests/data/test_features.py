import random

import pytest
import torch
from transformers import WhisperFeatureExtractor

from echo.config import AugmentSettings
from echo.data.audio import AudioFile
from echo.data.augment import spec_augment
from echo.data.features import log_mel
from echo.model.geometry import SAMPLE_RATE


@pytest.mark.parametrize("n_mels", [80, 128])
def test_features_are_whispers(shared, n_mels):
    extractor = WhisperFeatureExtractor(feature_size=n_mels)
    recordings = sorted((shared / "data" / "librispeech" / "dev").glob("*.opus"))[:3]
    assert recordings
    for path in recordings:
        samples = AudioFile(path).load()
        expected = extractor(
            samples.numpy(),
            sampling_rate=SAMPLE_RATE,
            return_attention_mask=True,
            return_tensors="pt",
        )
        features = log_mel(samples, n_mels)
        assert features.shape == (n_mels, int(expected.attention_mask.sum()))
        wanted = expected.input_features[0, :, : features.shape[1]]
        torch.testing.assert_close(features, wanted, rtol=0, atol=1e-6)


def test_long_recordings_are_the_same_in_blocks(monkeypatch):
    recording = torch.randn(160 * 120 + 80)
    whole = log_mel(recording, 80)
    monkeypatch.setattr("echo.data.features.BLOCK", 50)
    torch.testing.assert_close(log_mel(recording, 80), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("samples", [1, 100, 160, 161, 400])
def test_the_shortest_recordings_have_features(samples):
    features = log_mel(torch.randn(samples), 80)
    assert features.shape == (80, -(-samples // 160))
    assert torch.isfinite(features).all()


def test_masks_stay_within_their_bounds():
    settings = AugmentSettings(
        freq_masks=1, freq_mask_width=10, time_masks=1, time_mask_width=30, time_mask_share=0.1
    )
    features = torch.randn(80, 200)
    most_bands = most_frames = 0
    for seed in range(200):
        masked = spec_augment(features, settings, random.Random(seed)) == features.mean()
        bands, frames = int(masked.all(1).sum()), int(masked.all(0).sum())
        assert masked.sum() == bands * 200 + frames * 80 - bands * frames
        most_bands, most_frames = max(most_bands, bands), max(most_frames, frames)
    assert most_bands == 10
    assert most_frames == 20  # a tenth of the utterance, though 30 are allowed
