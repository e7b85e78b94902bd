"""Recordings: whatever libsndfile reads becomes mono float32 at 16 kHz."""

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
from torchaudio.transforms import Resample

from echo.model.geometry import SAMPLE_RATE
from echo.support.errors import DataError
from echo.support.files import refuse_pipe

MAX_RATE = 1_000_000  # Hz: above that a header is damaged, and resampling takes gigabytes
SUFFIXES = (".flac", ".wav", ".opus", ".ogg", ".mp3")  # of recordings
UNKNOWN_LENGTH = 2**63 - 1  # samples: libsndfile's answer for a FLAC written into a pipe

# What soundfile raises for a bad file: TypeError for .raw, which has no header, ValueError for an
# invalid file name, MemoryError for a header that claims too much.
UNREADABLE = (soundfile.LibsndfileError, OSError, TypeError, ValueError, MemoryError)


class Audio(ABC):
    """A recording, wherever it lies. `str` gives its name for messages.

    Every method raises DataError, naming the recording, where it is missing, unreadable, damaged
    or empty.
    """

    @abstractmethod
    def read(self) -> tuple[torch.Tensor, int]:
        """Decodes it as it was recorded: (channels, samples) float32, and the rate in Hz."""

    def load(self) -> torch.Tensor:
        """Decodes it to (samples,) float32, mono at 16 kHz."""
        return to_mono_16k(*self.read(), str(self))

    def seconds(self) -> float:
        """Returns its length in seconds: by its header, without decoding, where it has one."""
        samples, rate = self.read()
        return samples.shape[-1] / rate

    def encoded(self) -> bytes | None:
        """Returns the content of its file; None for plain samples."""
        return None

    def identity(self) -> bytes | None:
        """Returns what its samples depend on, for caches; None where nothing is decoded."""
        return None

    def fetch(self) -> "Audio":
        """Returns itself, or what it refers to: so that who calls several methods opens it once."""
        return self


@dataclass(frozen=True)
class AudioFile(Audio):
    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def read(self) -> tuple[torch.Tensor, int]:
        return decode(self.path, str(self))

    def seconds(self) -> float:
        return header_duration(self.path)

    def encoded(self) -> bytes:
        try:
            return self.path.read_bytes()
        except (OSError, ValueError) as error:
            raise DataError(f"{self}: {refusal(self.path, error)}") from None

    def identity(self) -> bytes | None:
        """Its path, size and time of change; None where it is gone."""
        try:
            status = self.path.stat()
        except (OSError, ValueError):
            return None
        place = os.fsencode(self.path.absolute())
        return b"%b %d %d" % (place, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class AudioBytes(Audio):
    """An encoded recording held in memory, as Arrow tables carry it."""

    content: bytes
    name: str

    def __str__(self) -> str:
        return self.name

    def read(self) -> tuple[torch.Tensor, int]:
        return decode(io.BytesIO(self.content), self.name)

    def seconds(self) -> float:
        return header_duration(io.BytesIO(self.content), self.name)

    def encoded(self) -> bytes:
        return self.content

    def identity(self) -> bytes:
        return self.content


@dataclass(frozen=True)
class AudioArray(Audio):
    """Samples that some other library has decoded already."""

    samples: np.ndarray  # (samples,) or (channels, samples)
    rate: int
    name: str

    def __str__(self) -> str:
        return self.name

    def read(self) -> tuple[torch.Tensor, int]:
        samples = torch.as_tensor(self.samples, dtype=torch.float32)
        return samples.reshape(-1, samples.shape[-1]), self.rate


@dataclass(frozen=True)
class JoinedAudio(Audio):
    """Several recordings one after another, with a pause (in seconds) before each."""

    parts: tuple[Audio, ...]
    pauses: tuple[float, ...]

    def __str__(self) -> str:
        return "+".join(map(str, self.parts))

    def read(self) -> tuple[torch.Tensor, int]:
        pieces = []
        for part, pause in zip(self.parts, self.pauses, strict=True):
            pieces += [torch.zeros(round(pause * SAMPLE_RATE)), part.load()]
        return torch.cat(pieces)[None], SAMPLE_RATE


class AudioReference(Audio):
    """A recording that is looked up when it is asked for: a kind of its own needs `fetch` alone."""

    @abstractmethod
    def fetch(self) -> Audio: ...

    def read(self) -> tuple[torch.Tensor, int]:
        return self.fetch().read()

    def load(self) -> torch.Tensor:
        return self.fetch().load()

    def seconds(self) -> float:
        return self.fetch().seconds()

    def encoded(self) -> bytes | None:
        return self.fetch().encoded()

    def identity(self) -> bytes | None:
        return self.fetch().identity()


def decode(source: Path | io.BytesIO, name: str) -> tuple[torch.Tensor, int]:
    """Decodes one recording as it was made: (channels, samples) float32, and its rate in Hz."""
    with opened(source, name) as file:
        return read_samples(file), file.samplerate


def read_samples(file: soundfile.SoundFile, frames: int = -1) -> torch.Tensor:
    """Returns (channels, samples) float32 from where the file stands: so many, or all."""
    return torch.from_numpy(file.read(frames, dtype="float32", always_2d=True).T)


def to_mono_16k(samples: torch.Tensor, rate: int, name: str) -> torch.Tensor:
    """Mixes (channels, samples) at `rate` Hz down to (samples,) at 16 kHz. DataError if there are
    no samples, if some are not finite, or if the rate is too high."""
    if rate > MAX_RATE:
        raise DataError(f"{name}: the recording has an invalid rate of {rate} Hz")
    if samples.shape[-1] == 0:
        raise DataError(f"{name}: the recording is empty")
    if not torch.isfinite(samples).all():
        raise DataError(f"{name}: the recording holds samples that are not finite numbers")
    mono = samples.mean(0)
    # The resampling kernel grows with the terms of the reduced ratio rate : 16 kHz. So an odd rate
    # such as 44,056 Hz is rounded to a multiple of 25 Hz, 0.02 % off.
    rate = max(25, 25 * round(rate / 25))
    return mono if rate == SAMPLE_RATE else resampler(rate, SAMPLE_RATE)(mono)


@lru_cache(maxsize=32)
def resampler(rate: int, new_rate: int) -> Resample:
    """Returns a resampler, cached because building its kernel costs more than using it."""
    return Resample(rate, new_rate)


def header_duration(source: Path | io.BytesIO, name: str = "") -> float:
    """Returns the seconds of audio by the recording's header, without decoding. Messages name a
    file by its path unless another name is given."""
    with opened(source, name or str(source)) as file:
        return file.frames / file.samplerate


@contextmanager
def opened(source: Path | io.BytesIO, name: str) -> Iterator[soundfile.SoundFile]:
    """Opens a recording. Errors while it is open become a DataError."""
    try:
        if isinstance(source, Path):
            refuse_pipe(source)
        with soundfile.SoundFile(source) as file:
            if file.frames <= 0:
                raise DataError(f"{name}: the recording is empty")
            if file.frames == UNKNOWN_LENGTH:  # libsndfile would decode only its first block
                raise DataError(f"{name}: the header gives no length: convert the recording again")
            yield file
    except UNREADABLE as error:
        raise DataError(f"{name}: {refusal(source, error)}") from None


def refusal(source: Path | io.BytesIO, error: Exception) -> str:
    """Returns why a recording cannot be read, by what soundfile or the system raised."""
    if isinstance(source, Path):  # libsndfile says only "System error" where the system refuses
        try:
            refuse_pipe(source)
            source.open("rb").close()
        except (FileNotFoundError, ValueError):
            return "no such recording"
        except OSError as refusal:
            return f"cannot be read ({refusal.strerror})"
    # libsndfile's own message repeats the path, or the address of a buffer: keep its reason.
    return f"cannot be read as audio ({str(getattr(error, 'error_string', error)).rstrip('.')})"
