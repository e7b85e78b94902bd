"""Log-mel features as Whisper computes them."""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from transformers.audio_utils import mel_filter_bank

from echo.model.geometry import HOP_LENGTH, SAMPLE_RATE, feature_frames

N_FFT = 400
BLOCK = 30_000  # frames: spectra held at once, for those of hours would take gigabytes


@lru_cache(maxsize=4)
def filters(n_mels: int) -> torch.Tensor:
    """Returns (n_mels, 201): the weight of each frequency of the spectrum in each mel band."""
    # torchaudio's are worked out in float32, and so are off by 1e-5 of a feature.
    bank = mel_filter_bank(
        num_frequency_bins=N_FFT // 2 + 1,
        num_mel_filters=n_mels,
        min_frequency=0.0,
        max_frequency=SAMPLE_RATE / 2,
        sampling_rate=SAMPLE_RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(bank.T.astype(np.float32, order="C"))


@lru_cache(maxsize=1)
def hann_window() -> torch.Tensor:
    return torch.hann_window(N_FFT)


def log_mel(samples: torch.Tensor, n_mels: int) -> torch.Tensor:
    """Computes what `WhisperFeatureExtractor` does, without padding to 30 s, of (samples,) at 16
    kHz: (n_mels, frames), a frame for each 10 ms begun."""
    frames = feature_frames(len(samples))
    # Silence follows the recording, as in Whisper's padded input; its frames are cut off again.
    followed = F.pad(samples, (0, N_FFT))
    # A frame is centred on its time: before the first the recording is heard mirrored.
    mirrored = torch.cat([followed[1 : N_FFT // 2 + 1].flip(0), followed])
    blocks = mirrored.unfold(0, N_FFT, HOP_LENGTH)[:frames].split(BLOCK)
    log_power = torch.cat([mel_powers(block, n_mels) for block in blocks], dim=1).log10_()
    return log_power.maximum(log_power.max() - 8).add_(4).div_(4)


def mel_powers(frames: torch.Tensor, n_mels: int) -> torch.Tensor:
    """Returns the power of frames (T, 400) in each mel band: (n_mels, T), at least 1e-10."""
    # As torch.stft(...).abs() ** 2, which takes twice as long: it draws roots to square them again.
    squares = torch.view_as_real(torch.fft.rfft(frames * hann_window())).square_()
    power = squares[..., 0] + squares[..., 1]
    return (filters(n_mels) @ power.T).clamp_(min=1e-10)
