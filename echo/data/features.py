"""Log-mel features as Whisper has them, and SpecAugment."""

import random
from functools import lru_cache

import torch
from torchaudio.transforms import MelSpectrogram

from echo.config import AugmentSettings
from echo.data.audio import SAMPLE_RATE

N_FFT = 400
HOP_LENGTH = 160
FRAMES_PER_SECOND = SAMPLE_RATE // HOP_LENGTH


@lru_cache(maxsize=4)
def mel_spectrogram(n_mels: int) -> MelSpectrogram:
    return MelSpectrogram(
        SAMPLE_RATE,
        n_fft=N_FFT,
        hop_length=HOP_LENGTH,
        n_mels=n_mels,
        norm="slaney",
        mel_scale="slaney",
    )


def log_mel(samples: torch.Tensor, n_mels: int) -> torch.Tensor:
    """Computes what `WhisperFeatureExtractor` does, without padding to 30 s.

    Args:
        samples: (samples,) at 16 kHz.

    Returns:
        (n_mels, frames), a frame for each 10 ms begun.
    """
    frames = -(-len(samples) // HOP_LENGTH)
    # Silence follows the recording, as in Whisper's padded input; its frames are cut off again.
    padded = torch.nn.functional.pad(samples, (0, N_FFT))
    log_power = mel_spectrogram(n_mels)(padded)[:, :frames].clamp(min=1e-10).log10()
    return (log_power.maximum(log_power.max() - 8) + 4) / 4


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
