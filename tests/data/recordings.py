"""Recordings for tests: a tone in any format that soundfile writes."""

import json
from pathlib import Path

import numpy as np
import soundfile

SUBTYPES = {".ogg": "VORBIS", ".opus": "OPUS"}


def tone(seconds: float = 1.0, rate: int = 16_000, channels: int = 1) -> np.ndarray:
    """(samples, channels) of a sine at 440 Hz, half as loud as can be."""
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    return np.stack([wave] * channels, axis=1)


def write(path: Path, samples: np.ndarray | None = None, rate: int = 16_000) -> Path:
    """Writes samples, or a second of a tone, in the format of the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(
        path,
        tone(rate=rate) if samples is None else samples,
        rate,
        format="OGG" if path.suffix in SUBTYPES else None,
        subtype=SUBTYPES.get(path.suffix),
    )
    return path


def write_manifest(path: Path, *rows: object) -> str:
    """Writes rows as JSON lines, and strings as they are; returns the source's spec."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return str(path)
