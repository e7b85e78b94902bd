"""What is done to the features of training examples; `waveform` has what is done to samples."""

import random

import torch

from echo.config import AugmentSettings


def spec_augment(
    features: torch.Tensor, settings: AugmentSettings, rng: random.Random
) -> torch.Tensor:
    """Masks random bands and stretches of (n_mels, frames) with the features' mean (Park et al.
    2019, "SpecAugment"). torchaudio's masks took longer than the features themselves."""
    features = features.clone()
    n_mels, frames = features.shape
    mean = features.mean()
    for _ in range(settings.freq_masks):
        width = rng.randint(0, min(settings.freq_mask_width, n_mels))
        start = rng.randint(0, n_mels - width)
        features[start : start + width] = mean
    longest = min(settings.time_mask_width, int(settings.time_mask_share * frames))
    for _ in range(settings.time_masks):
        width = rng.randint(0, longest)
        start = rng.randint(0, frames - width)
        features[:, start : start + width] = mean
    return features
