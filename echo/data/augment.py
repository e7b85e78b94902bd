"""What is done to training examples: to their samples reverberation, noise, gain and codecs, and to
their features SpecAugment."""

import io
import random
from pathlib import Path

import soundfile
import torch
from torchaudio.functional import fftconvolve

from echo.config import AugmentSettings
from echo.data.audio import AudioFile
from echo.data.mixing import resampler
from echo.data.noise import AudioFolder, add_noise, power
from echo.model.geometry import SAMPLE_RATE
from echo.support.errors import DataError

MAX_IMPULSE = 10.0  # seconds: what is longer is no impulse response
TELEPHONE_RATE = 8000  # Hz
CODECS = {"mu-law": "ULAW", "a-law": "ALAW", "gsm": "GSM610"}  # libsndfile's names


class WaveformAugment:
    """Changes samples as a recording's way to the model would: the room, the noise in it, the
    level of recording, the telephone line. The length stays."""

    def __init__(self, settings: AugmentSettings) -> None:
        """Raises ConfigError if a folder does not exist or holds no recordings."""
        self.settings = settings
        noise, reverb = settings.noise, settings.reverb
        self.noises = noise and AudioFolder.at(Path(noise.folder), "data.augment.noise.folder")
        self.rooms = reverb and AudioFolder.at(Path(reverb.folder), "data.augment.reverb.folder")

    def __call__(self, samples: torch.Tensor, rng: random.Random) -> torch.Tensor:
        """Draws what is done to (samples,) at 16 kHz, and does it."""
        settings = self.settings
        if self.rooms and settings.reverb and rng.random() < settings.reverb.probability:
            samples = reverberate(samples, rng.choice(self.rooms.paths))
        if self.noises and settings.noise and rng.random() < settings.noise.probability:
            snr = rng.uniform(*settings.noise.snr)
            samples = add_noise(samples, self.noises.stretch(len(samples), rng), snr)
        if settings.gain:
            samples = samples * 10 ** (rng.uniform(*settings.gain) / 20)
        if settings.codec and rng.random() < settings.codec.probability:
            samples = over_telephone(samples, rng.choice(settings.codec.kinds))
        return samples


def reverberate(samples: torch.Tensor, path: Path) -> torch.Tensor:
    """Convolves samples with an impulse response. Its loudest sample, the direct sound, stays in
    place, so that transcripts and timestamps still fit; so does the power of the whole."""
    impulse = AudioFile(path)
    if impulse.seconds() > MAX_IMPULSE:
        raise DataError(
            f"{path}: is longer than {MAX_IMPULSE:g} s: this is not an impulse response"
        )
    response = impulse.load()
    if not response.any():
        raise DataError(f"{path}: is digital silence, not an impulse response: remove it")
    onset = int(response.abs().argmax())
    heard = fftconvolve(samples, response)[onset : onset + len(samples)]
    if not heard.any():  # of digital silence
        return samples
    return heard * (power(samples) / power(heard)) ** 0.5


def over_telephone(samples: torch.Tensor, codec: str) -> torch.Tensor:
    """Returns samples as a codec leaves them: at 8 kHz, clipped to full scale, encoded, decoded."""
    narrow = resampler(SAMPLE_RATE, TELEPHONE_RATE)(samples).clamp(-1, 1)
    file = io.BytesIO()
    soundfile.write(file, narrow.numpy(), TELEPHONE_RATE, CODECS[codec], format="WAV")
    file.seek(0)
    decoded = torch.from_numpy(soundfile.read(file, dtype="float32")[0])
    # GSM fills up its last block.
    return resampler(TELEPHONE_RATE, SAMPLE_RATE)(decoded)[: len(samples)]


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
