"""What can be measured of the sound of a recording without a model."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F

from echo.data.audio import Audio
from echo.data.check import SILENCE
from echo.data.mixing import cancels, to_mono_16k
from echo.data.voice import loudness, quietest_tenth, rising
from echo.model.geometry import HOP_LENGTH, SAMPLE_RATE

FLAT = 0.99  # of a channel's peak: speech reaches it for a moment, clipped speech stays there
N_FFT = 512
# Hz: what telephones leave out, and what they keep. Noise and every consonant have something of
# both.
HIGH, MIDDLE = (5000, 7500), (2500, 3500)
DIGITAL_SILENCE = -100.0  # dB, in which there is no noise to measure
# The fingerprint: whether power rises over time and frequency in a grid of 32 parts by 8.
BAND_EDGES = np.geomspace(300, 3400, 10)  # Hz: what telephones and codecs leave
PARTS = 33


@dataclass(frozen=True, slots=True)
class Sound:
    """The measures of one recording. What has no meaning in silence is None there."""

    seconds: float
    rate: int  # Hz
    channels: int
    cancels: bool  # whether its channels cancel each other out
    voice: float  # seconds that can contain speech
    span: float  # seconds from the first of these to the last
    level: float | None  # dB re a full-scale sine, in the speech band: of all that can be speech
    snr: float | None  # dB, of that over the quietest tenth
    clipped: float | None  # the share of samples at the peak of their channel
    high_band: float | None  # dB: the level from 5 to 7.5 kHz over that from 2.5 to 3.5
    fingerprint: str | None  # 256 bits in hexadecimal, almost the same for the same sound


def measure_sound(audio: Audio, name: str) -> Sound:
    """Decodes and measures a recording. DataError where it cannot be read."""
    samples, rate = audio.read()
    mono = to_mono_16k(samples, rate, name)
    levels = loudness(mono)
    voiced = rising(levels)
    places = voiced.nonzero()[:, 0]
    first, last = (int(places[0]), int(places[-1]) + 1) if len(places) else (0, len(levels))
    level = snr = clipped = high_band = fingerprint = None
    if samples.abs().max() >= SILENCE:
        power = spectrum(mono)
        noises = levels[levels > DIGITAL_SILENCE]
        if len(noises):
            powers = 10 ** ((levels[voiced] if len(places) else noises).double() / 10)
            level = 10 * math.log10(powers.mean().item())
            snr = round(level - quietest_tenth(noises), 2)
        peaks = samples.abs().amax(1, keepdim=True)
        flat = (samples.abs() >= FLAT * peaks).float().mean(1)[peaks[:, 0] >= SILENCE]
        clipped = round(flat.max().item(), 6)
        high_band = high_over_middle(power)
        fingerprint = print_of(power[:, first:last])
    return Sound(
        seconds=round(samples.shape[-1] / rate, 3),
        rate=rate,
        channels=len(samples),
        cancels=cancels(samples, rate),
        voice=len(places) * HOP_LENGTH / SAMPLE_RATE,
        span=round((last - first) * HOP_LENGTH / SAMPLE_RATE, 2),
        level=level and round(level, 2),
        snr=snr,
        clipped=clipped,
        high_band=high_band,
        fingerprint=fingerprint,
    )


def spectrum(samples: torch.Tensor) -> torch.Tensor:
    """Returns the power of (samples,) at 16 kHz: (frequencies, frames), a frame every 10 ms."""
    padded = F.pad(samples, (0, max(0, N_FFT - len(samples))))
    window = torch.hann_window(N_FFT)
    power = torch.stft(padded, N_FFT, HOP_LENGTH, window=window, center=False, return_complex=True)
    return power.abs().square()


def high_over_middle(power: torch.Tensor) -> float:
    """Returns the level of high frequencies over that of middle ones, in dB."""
    mean = power.double().mean(1).clamp(min=1e-20)
    high, middle = (
        mean[round(low * N_FFT / SAMPLE_RATE) : round(top * N_FFT / SAMPLE_RATE) + 1].mean().item()
        for low, top in (HIGH, MIDDLE)
    )
    return round(10 * math.log10(high / middle), 2)


def print_of(power: torch.Tensor) -> str:
    """Returns a fingerprint that other levels, codecs and silence around the speech change little:
    the signs of changes of power over time, and how they differ between neighbouring bands
    (Haitsma and Kalker, 2002)."""
    edges = (BAND_EDGES * N_FFT / SAMPLE_RATE).round().astype(int)
    bands = torch.stack([power[a:b].mean(0) for a, b in pairwise(edges)])
    cells = F.adaptive_avg_pool1d(bands[None], PARTS)[0].clamp(min=1e-12).log()
    return np.packbits((cells.diff(dim=0).diff(dim=1) > 0).numpy()).tobytes().hex()
