"""Mixing of channels to one, and resampling to 16 kHz."""

from functools import lru_cache

import torch
from torchaudio.transforms import Resample

from echo.model.geometry import SAMPLE_RATE
from echo.support.errors import DataError

MAX_RATE = 1_000_000  # Hz: above that a header is damaged, and resampling takes gigabytes
MAX_CHANNELS = 64  # what large microphone arrays have
CANCELLED = 0.25  # the share of a channel's power in a mix below which it is lost
FAINT = 0.01  # of the mean power: what is 20 dB below does not decide how channels are mixed


def to_mono_16k(samples: torch.Tensor, rate: int, name: str) -> torch.Tensor:
    """Mixes (channels, samples) at `rate` Hz down to (samples,) at 16 kHz. DataError if there are
    no samples or too many channels, if some are not finite, or if the rate is too high."""
    if rate > MAX_RATE:
        raise DataError(f"{name}: the recording has an invalid rate of {rate} Hz")
    if samples.shape[-1] == 0:
        raise DataError(f"{name}: the recording is empty")
    if len(samples) > MAX_CHANNELS:
        raise DataError(
            f"{name}: the recording has {len(samples)} channels, more than {MAX_CHANNELS}"
        )
    if not torch.isfinite(samples).all():
        raise DataError(f"{name}: the recording holds samples that are not finite numbers")
    mono = mixed(samples, rate)
    rate = plain_rate(rate)
    return mono if rate == SAMPLE_RATE else resampler(rate, SAMPLE_RATE)(mono)


def mixed(samples: torch.Tensor, rate: int) -> torch.Tensor:
    """Returns the mean of (channels, samples). Where channels cancel each other out, as those of a
    microphone wired the wrong way round do, those opposed to the loudest are turned round first;
    where that does not help, it is the loudest alone."""
    if not cancels(samples, rate):
        return samples.mean(0)
    loudest = samples[samples.var(1, correction=0).argmax()]
    turned = torch.where((samples @ loudest < 0)[:, None], -samples, samples)
    return loudest if cancels(turned, rate) else turned.mean(0)


def cancels(samples: torch.Tensor, rate: int) -> bool:
    """Tells whether (channels, samples) cancel each other out: whether their sum has almost nothing
    of what a channel holds, among the louder ones and in any second that is not much fainter than
    the others."""
    if len(samples) == 1:
        return False
    # Without constant offsets, which cheap sound cards add to each channel.
    covariances = torch.stack([second.cov(correction=0) for second in samples.split(rate, -1)])
    powers = covariances.diagonal(dim1=1, dim2=2)
    kept = covariances.sum(2).abs()  # of unrelated channels as much as the power
    loudest = powers.amax(1, keepdim=True)
    lost = (kept < CANCELLED * powers) & (powers > loudest / 2) & (loudest > FAINT * loudest.mean())
    return bool(lost.any())


def plain_rate(rate: int) -> int:
    """Returns the rate that one counts as in resampling, whose kernel grows with the terms of the
    reduced ratio rate : 16 kHz. So an odd rate such as 44,056 Hz is rounded to a multiple of 25 Hz,
    0.02 % off."""
    return max(25, 25 * round(rate / 25))


def resampling(rate: int) -> tuple[int, int, int]:
    """Returns the step of resampling to 16 kHz, in samples before and after, and how many samples
    around one it depends on, at the most."""
    rate = plain_rate(rate)
    if rate == SAMPLE_RATE:
        return 1, 1, 0
    made = resampler(rate, SAMPLE_RATE)
    step = rate // made.gcd
    return step, SAMPLE_RATE // made.gcd, made.width + step


@lru_cache(maxsize=32)
def resampler(rate: int, new_rate: int) -> Resample:
    """Returns a resampler, cached because building its kernel costs more than using it."""
    return Resample(rate, new_rate)
