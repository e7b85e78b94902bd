"""The recordings of a page: with their log-mels in it up to a total size, linked past that."""

import io
import logging
import os
from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import soundfile

from echo.data.audio import Audio, AudioFile, clock
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


class Sound(NamedTuple):
    """A recording as the page's player takes it."""

    audio: str  # MP3 in base64
    spectrogram: str  # JPEG in base64; low frequencies below


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
        size += sum(map(len, sound))
        if size > EMBEDDED_BYTES:
            break
        found[number] = sound
    return found


def embed(audio: Audio) -> Sound:
    samples = audio.load()
    # The model's own features, two frames a column.
    mel = log_mel(samples, N_MELS).flip(0)
    width = min(PICTURE[0], -(-mel.shape[1] // 2))
    file = io.BytesIO()
    soundfile.write(file, samples.clamp(-1, 1).numpy(), SAMPLE_RATE, **FORMAT)
    mp3 = b64encode(file.getvalue()).decode()
    return Sound(mp3, heat_map(mel.numpy(), width, PICTURE[1]))


def link(audio: Audio, page: Path) -> str | None:
    """The recording's address relative to the page, of a slice with its times; None where it is no
    file, or one channel, which a browser cannot play alone."""
    times = ""
    if part := audio.as_slice():
        audio = part.audio
        times = f"#t={clock(part.start)}" + ("" if part.end is None else f",{clock(part.end)}")
    if not isinstance(audio, AudioFile):  # nor of an AudioChannel
        return None
    path, start = audio.path.resolve(), page.resolve().parent
    try:
        relative = os.path.relpath(path, start)
    except ValueError:  # on another drive
        return path.as_uri() + times
    return quote(relative.replace(os.sep, "/"), errors="surrogateescape") + times
