"""A recording for the page: small enough to be embedded, and its log-mel spectrogram."""

import io
from base64 import b64encode
from dataclasses import dataclass

import numpy as np
import soundfile
import torch
from PIL import Image

from echo.data.audio import Audio
from echo.data.features import log_mel
from echo.model.geometry import SAMPLE_RATE

N_MELS = 80
MOST_COLUMNS = 600  # of a spectrogram's picture
# What every browser plays. Level 0.7 is about 24 kbit/s at 16 kHz.
FORMAT = {"format": "MP3", "subtype": "MPEG_LAYER_III", "compression_level": 0.7}


@dataclass(frozen=True)
class Sound:
    audio: str  # MP3 in base64
    spectrogram: str  # JPEG in base64, shades of grey, low frequencies below

    @property
    def size(self) -> int:
        """Bytes of the page."""
        return len(self.audio) + len(self.spectrogram)


def embed(audio: Audio) -> Sound:
    """Encodes a recording.

    Raises:
        DataError: it is missing, unreadable, damaged or empty.
    """
    samples = audio.load()
    return Sound(encode(encoded(samples)), encode(spectrogram(samples)))


def encoded(samples: torch.Tensor) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples.clamp(-1, 1).numpy(), SAMPLE_RATE, **FORMAT)
    return file.getvalue()


def spectrogram(samples: torch.Tensor) -> bytes:
    """The model's own features as a picture."""
    mel = log_mel(samples, N_MELS)
    low, high = mel.min(), mel.max()
    levels = 255 * (mel - low) / (high - low).clamp(min=1e-6)
    picture = Image.fromarray(levels.flip(0).numpy().astype(np.uint8))
    picture = picture.resize((min(MOST_COLUMNS, -(-picture.width // 2)), N_MELS // 2))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=60)
    return file.getvalue()


def encode(content: bytes) -> str:
    return b64encode(content).decode()
