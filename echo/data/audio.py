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
    try:
        samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        if isinstance(source, Path) and not source.is_file():
            raise DataError(f"{name}: no such recording") from None
        raise DataError(f"{name}: cannot be read as audio ({error})") from None
    return to_mono_16k(torch.from_numpy(samples.T), rate, name)


def to_mono_16k(samples: torch.Tensor, rate: int, name: str) -> torch.Tensor:
    """Mixes (channels, samples) at `rate` Hz down to (samples,) at 16 kHz."""
    if samples.shape[-1] == 0:
        raise DataError(f"{name}: the recording is empty")
    if not torch.isfinite(samples).all():
        raise DataError(f"{name}: the recording holds samples that are not finite numbers")
    mono = samples.mean(0)
    return mono if rate == SAMPLE_RATE else resampler(rate, SAMPLE_RATE)(mono)


@lru_cache(maxsize=32)
def resampler(rate: int, new_rate: int) -> Resample:
    """A resampler, kept because building its kernel costs more than using it."""
    return Resample(rate, new_rate)


def header_duration(path: Path) -> float:
    """Seconds of audio by the file's header, without decoding.

    Raises:
        DataError: the file is missing, unreadable or empty.
    """
    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, OSError) as error:
        if not path.is_file():
            raise DataError(f"{path}: no such recording") from None
        raise DataError(f"{path}: cannot be read as audio ({error})") from None
    if info.frames <= 0 or info.samplerate <= 0:
        raise DataError(f"{path}: the recording is empty")
    return info.frames / info.samplerate
