"""Recordings of noise, and speech mixed with them at a signal-to-noise ratio."""

import logging
import math
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from echo.data.audio import Audio
from echo.data.mixing import to_mono_16k
from echo.data.named import check_folder
from echo.data.sound_file import READABLE, named_like_audio, opened, read_samples
from echo.model.geometry import SAMPLE_RATE
from echo.support.errors import ConfigError, DataError
from echo.support.files import files_below

logger = logging.getLogger(__name__)

ATTEMPTS = 20  # at a stretch that is not digital silence


@dataclass(frozen=True)
class AudioFolder:
    """The recordings below a folder. A recording is opened when it is drawn, and not kept."""

    paths: tuple[Path, ...]

    @classmethod
    def at(cls, folder: Path, setting: str) -> "AudioFolder":
        """Finds the recordings below the folder that a setting names, or raises ConfigError."""
        check_folder(folder, setting)
        found = list(filter(named_like_audio, files_below(folder)))
        usable = (path for path in found if path.suffix.lower() in READABLE)
        # By their names within the folder, so that the order is the same wherever it lies.
        paths = tuple(sorted(usable, key=lambda path: path.relative_to(folder).as_posix()))
        if not paths:
            raise ConfigError(f"{setting}: {folder} holds no recordings ({', '.join(READABLE)})")
        if left := set(found) - set(paths):
            logger.warning(
                "%s: %d files are not used, as %s: convert them to one of %s",
                *(setting, len(left), min(left), ", ".join(READABLE)),
            )
        return cls(paths)

    def stretch(self, samples: int, rng: random.Random) -> torch.Tensor:
        """Returns (samples,) float32 at 16 kHz from a recording and a place drawn at random. Only
        this stretch is decoded. A recording that is shorter is repeated. DataError if it cannot be
        read, or if it is digital silence wherever it is tried."""
        path = rng.choice(self.paths)
        for _ in range(ATTEMPTS):
            noise = read_stretch(path, samples, rng)
            if noise.any():
                return noise
        raise DataError(f"{path}: is digital silence, not noise: remove it")


def read_stretch(path: Path, samples: int, rng: random.Random) -> torch.Tensor:
    """Returns one stretch of a recording, which may be silent; see `AudioFolder.stretch`."""
    with opened(path, str(path)) as file:
        wanted = math.ceil(samples * file.samplerate / SAMPLE_RATE)
        if file.frames > wanted:
            file.seek(rng.randrange(file.frames - wanted + 1))
        noise = to_mono_16k(read_samples(file, str(path), wanted), file.samplerate, str(path))
    if len(noise) < samples:
        noise = noise.roll(-rng.randrange(len(noise))).repeat(math.ceil(samples / len(noise)))
    return noise[:samples]


def power(samples: torch.Tensor) -> float:
    """Returns the mean square of samples."""
    # By numpy, because torch's sums differ in their last bits with the number of threads, and
    # workers have one.
    return float(np.square(samples.numpy(), dtype=np.float64).mean())


def add_noise(speech: torch.Tensor, noise: torch.Tensor, snr: float) -> torch.Tensor:
    """Returns speech and noise, both (samples,), at an SNR in dB: the ratio of their powers over
    the whole utterance, pauses included. The speech keeps its level."""
    return speech + noise * math.sqrt(power(speech) / power(noise) / 10 ** (snr / 10))


@dataclass(frozen=True)
class NoisyAudio(Audio):
    """A recording with noise at an SNR in dB, or None: the noise alone, as it was recorded. Which
    noise depends on the seed alone."""

    audio: Audio
    noises: AudioFolder
    snr: float | None
    seed: str

    def __str__(self) -> str:
        return str(self.audio) if self.snr is not None else f"noise for {self.audio}"

    def read(self) -> tuple[torch.Tensor, int]:
        speech = self.audio.load()
        noise = self.noises.stretch(len(speech), random.Random(self.seed))
        heard = noise if self.snr is None else add_noise(speech, noise, self.snr)
        return heard[None], SAMPLE_RATE
