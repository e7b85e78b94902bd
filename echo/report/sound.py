"""The recordings of a page: with their log-mels in it up to a total size, linked past that."""

import io
import logging
import os
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import soundfile
import torch

from echo.data.audio import Audio, AudioFile
from echo.data.features import log_mel
from echo.model.geometry import SAMPLE_RATE
from echo.support.errors import DataError
from echo.support.pictures import heat_map

logger = logging.getLogger(__name__)

EMBEDDED_BYTES = 1_500_000  # of recordings in a page; it links to the others
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


def embedded(recordings: Iterable[tuple[int, Audio]]) -> dict[int, Sound]:
    """The recordings that a page holds, by their numbers: the first ones, as many as fit. One that
    cannot be read is left out with a warning."""
    found: dict[int, Sound] = {}
    size = 0
    for number, audio in recordings:
        try:
            sound = embed(audio)
        except DataError as error:
            logger.warning("the page does not have one recording: %s", error)
            continue
        size += sound.size
        if size > EMBEDDED_BYTES:
            break
        found[number] = sound
    return found


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


def link(audio: Audio, page: Path) -> str | None:
    """The recording's address relative to the page; None where it is no file."""
    if not isinstance(audio, AudioFile):
        return None
    path, start = audio.path.resolve(), page.resolve().parent
    try:
        relative = os.path.relpath(path, start)
    except ValueError:  # on another drive
        return path.as_uri()
    return quote(relative.replace(os.sep, "/"), errors="surrogateescape")
