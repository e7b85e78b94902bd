"""A recording for the page: small enough to be embedded, and its log-mel spectrogram."""

import io
from base64 import b64encode
from dataclasses import dataclass

import soundfile
import torch

from echo.data.audio import Audio
from echo.data.features import log_mel
from echo.model.geometry import SAMPLE_RATE
from echo.report.pictures import heat_map

N_MELS = 80
PICTURE = (600, 40)  # pixels, at most
# What every browser plays, at about 35 kbit/s. Opus is smaller, and takes six times as long.
FORMAT = {"format": "MP3", "subtype": "MPEG_LAYER_III", "compression_level": 0.7}


@dataclass(frozen=True)
class Sound:
    audio: str  # MP3 in base64
    spectrogram: str  # JPEG in base64; low frequencies below

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
    # The model's own features, two frames a column.
    mel = log_mel(samples, N_MELS).flip(0)
    width = min(PICTURE[0], -(-mel.shape[1] // 2))
    return Sound(encoded(samples), heat_map(mel.numpy(), width, PICTURE[1]))


def encoded(samples: torch.Tensor) -> str:
    """(samples,) at 16 kHz as an MP3 in base64."""
    file = io.BytesIO()
    soundfile.write(file, samples.clamp(-1, 1).numpy(), SAMPLE_RATE, **FORMAT)
    return b64encode(file.getvalue()).decode()
