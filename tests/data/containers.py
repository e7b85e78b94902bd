"""Writes recordings into containers, by PyAV."""

from fractions import Fraction
from pathlib import Path

import numpy as np


def write_container(path: Path, samples: np.ndarray, rate: int, codec: str, **options: str) -> Path:
    """Writes (channels, samples) float32 in the format of the path's suffix."""
    import av

    kind = {".webm": "webm", ".mkv": "matroska"}.get(path.suffix, "mp4")
    with av.open(str(path), "w", format=kind, options=options) as container:
        layout = "mono" if len(samples) == 1 else "stereo"
        track = container.add_stream(codec, rate=rate, layout=layout)
        for start in range(0, samples.shape[1], 960):
            block = np.ascontiguousarray(samples[:, start : start + 960], dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return path
