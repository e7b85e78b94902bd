"""Recordings that a user names, as files or as folders of them."""

from collections.abc import Sequence
from pathlib import Path

import soundfile
import torch

from echo.data.audio import AudioFile, header_duration, refusal
from echo.model.geometry import SAMPLE_RATE
from echo.support.errors import DataError

# How much shorter than its header says an undamaged recording may be: decoders differ by about a
# frame, and resampling by 0.02 %.
TOLERANCE_SECONDS = 0.2
TOLERANCE_SHARE = 0.001


def find_recordings(paths: Sequence[Path]) -> list[Path]:
    """Returns the files themselves, and what folders hold that is named like audio, in order of
    names; each of them once. Raises DataError where a file cannot be found, or a folder holds
    none."""
    found: dict[Path, None] = {}
    for path in paths:
        try:
            path.stat()
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: {refusal(path, error)}") from None
        files = sorted(filter(is_audio, path.rglob("*"))) if path.is_dir() else [path]
        if not files:
            raise DataError(f"{path}: holds no recordings")
        found.update(dict.fromkeys(files))
    return list(found)


def is_audio(path: Path) -> bool:
    """Whether a file is named like audio that can be read, and is not hidden."""
    suffix = path.suffix.lstrip(".").upper()
    known = suffix in (*soundfile.available_formats(), "AIF", "OGA", "OPUS") and suffix != "RAW"
    return known and not path.name.startswith(".") and path.is_file()


def load_whole(path: Path) -> torch.Tensor:
    """Decodes a recording to (samples,) at 16 kHz. Raises DataError where it cannot be read, or not
    to its end: the missing part may be anywhere, and times after it would be wrong."""
    samples = AudioFile(path).load()
    promised, found = header_duration(path), len(samples) / SAMPLE_RATE
    if promised - found > max(TOLERANCE_SECONDS, TOLERANCE_SHARE * promised):
        raise DataError(
            f"{path}: the recording is damaged: {found:.1f} of its {promised:.1f} s can be read"
        )
    return samples
