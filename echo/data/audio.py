"""Decoding: whatever libsndfile reads becomes mono float32 at 16 kHz."""

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
import torch
from torchaudio.transforms import Resample

from echo.errors import DataError

SAMPLE_RATE = 16_000

# What soundfile raises for a bad file; TypeError is for headerless .raw, whose rate nobody knows.
UNREADABLE = (soundfile.LibsndfileError, OSError, TypeError)


class Audio(Protocol):
    """Something that can be decoded into one utterance's samples."""

    def load(self) -> torch.Tensor:
        """Returns (samples,) float32 at 16 kHz; raises DataError naming the recording."""
        ...


@dataclass(frozen=True)
class AudioFile:
    path: Path

    def load(self) -> torch.Tensor:
        return decode(self.path, str(self.path))


@dataclass(frozen=True)
class AudioBytes:
    """An encoded recording held in memory, as Arrow tables carry it."""

    content: bytes
    name: str

    def load(self) -> torch.Tensor:
        return decode(io.BytesIO(self.content), self.name)


@dataclass(frozen=True)
class AudioArray:
    """Samples that some other library has decoded already."""

    samples: np.ndarray  # (samples,) or (channels, samples)
    rate: int
    name: str

    def load(self) -> torch.Tensor:
        samples = torch.as_tensor(self.samples, dtype=torch.float32)
        return to_mono_16k(samples.reshape(-1, samples.shape[-1]), self.rate, self.name)


@dataclass(frozen=True)
class JoinedAudio:
    """Several recordings one after another, with a pause (in seconds) before each."""

    parts: tuple[Audio, ...]
    pauses: tuple[float, ...]

    def load(self) -> torch.Tensor:
        pieces = []
        for part, pause in zip(self.parts, self.pauses, strict=True):
            pieces += [torch.zeros(round(pause * SAMPLE_RATE)), part.load()]
        return torch.cat(pieces)


def decode(source: Path | io.BytesIO, name: str) -> torch.Tensor:
    """Decodes one recording to (samples,) float32 at 16 kHz.

    Raises:
        DataError: the recording is missing, unreadable, damaged or empty.
    """
    return to_mono_16k(*read(source, name), name)


def read(source: Path | io.BytesIO, name: str) -> tuple[torch.Tensor, int]:
    """Decodes one recording as it was made: (channels, samples) float32, and its rate in Hz.

    Raises:
        DataError: the recording is missing, unreadable or damaged.
    """
    try:
        samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
    except UNREADABLE as error:
        raise unreadable(source, name, error) from None
    return torch.from_numpy(samples.T), rate


def to_mono_16k(samples: torch.Tensor, rate: int, name: str) -> torch.Tensor:
    """Mixes (channels, samples) at `rate` Hz down to (samples,) at 16 kHz."""
    if samples.shape[-1] == 0:
        raise DataError(f"{name}: the recording is empty")
    if not torch.isfinite(samples).all():
        raise DataError(f"{name}: the recording holds samples that are not finite numbers")
    mono = samples.mean(0)
    # The kernel's size grows with the numbers in rate : 16 kHz once they are reduced. An odd rate
    # such as 44,056 Hz is taken for the nearest that shares 25 Hz with 16 kHz: 0.02 % off.
    rate = max(25, 25 * round(rate / 25))
    return mono if rate == SAMPLE_RATE else resampler(rate, SAMPLE_RATE)(mono)


@lru_cache(maxsize=32)
def resampler(rate: int, new_rate: int) -> Resample:
    """A resampler, kept because building its kernel costs more than using it."""
    return Resample(rate, new_rate)


def header_duration(source: Path | io.BytesIO, name: str = "") -> float:
    """Seconds of audio by the recording's header, without decoding.

    A file goes by its path in messages where it is given no other name.

    Raises:
        DataError: the recording is missing, unreadable or empty.
    """
    name = name or str(source)
    try:
        info = soundfile.info(source)
    except UNREADABLE as error:
        raise unreadable(source, name, error) from None
    if info.frames <= 0 or info.samplerate <= 0:
        raise DataError(f"{name}: the recording is empty")
    return info.frames / info.samplerate


def unreadable(source: Path | io.BytesIO, name: str, error: Exception) -> DataError:
    if isinstance(source, Path) and not source.is_file():
        return DataError(f"{name}: no such recording")
    # libsndfile's own message repeats the path, or the address of a buffer: keep its reason.
    reason = str(getattr(error, "error_string", error)).rstrip(".")
    return DataError(f"{name}: cannot be read as audio ({reason})")
