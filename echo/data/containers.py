"""Audio tracks of MP4, M4A, WebM and Matroska files, decoded by PyAV where it is installed.

Files are known by how they begin, and FFmpeg is given their format and content: what it would
recognise by itself includes playlists, which name other files and addresses.
"""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from echo.support.errors import DataError

AVAILABLE = find_spec("av") is not None
SUFFIXES = (".m4a", ".mp4", ".webm")
MATROSKA = b"\x1aE\xdf\xa3"
GAP = 0.1  # seconds without a packet that are silence: recorders leave out what nobody sent
CUT_OFF = 0.2  # seconds by which the last packet may miss the end that the header gives


def container_format(source: Path | io.BytesIO) -> str | None:
    """Returns the format of a container, by how it begins; None for any other file."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            head = file.read(64)
    else:
        head = source.getvalue()[:64]
    if head[4:8] == b"ftyp":
        return "MP4"
    return ("WEBM" if b"webm" in head else "MKV") if head.startswith(MATROSKA) else None


class Block(NamedTuple):
    """What one packet decodes to."""

    samples: np.ndarray  # (channels, samples) float32
    place: int  # of its first sample, by its timestamp


class ContainerFile:
    """The first audio track of a container, with what reading needs of soundfile's interface. What
    a recorder left out is silence.

    Raises:
        DataError: PyAV is not installed.
        ValueError: it cannot be decoded.
    """

    def __init__(self, source: Path | io.BytesIO, format: str, name: str) -> None:
        if not AVAILABLE:
            raise DataError(
                f"{name}: m4a, mp4 and webm need PyAV, which is not installed: "
                "pip install 'echo-asr[containers]'"
            )
        import av

        self.format = format
        self.source: Any = source.open("rb") if isinstance(source, Path) else source
        try:
            with ffmpeg_errors():
                seconds = self.seconds()
                self.container = self.open()
                self.track = self.container.streams.audio[0]
                self.start: int | None = None  # the first timestamp
                self.floats = av.AudioResampler(format="fltp")
                # Two tell what a header may get wrong: the rate, and how the blocks lie.
                self.head = [*islice(self.blocks(), 2)]
                if not self.head:
                    raise ValueError("its audio track is empty")
        except BaseException:
            self.close()
            raise
        self.subtype: str = self.track.codec_context.codec.canonical_name
        self.channels = len(self.head[0].samples)
        self.samplerate: int = self.track.codec_context.sample_rate
        self.frames = round(seconds * self.samplerate)
        self.ahead = self.samples(chain(self.head, self.blocks()), 0)

    def __enter__(self) -> "ContainerFile":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        if hasattr(self, "container"):
            self.container.close()
        if not isinstance(self.source, io.BytesIO):
            self.source.close()

    def open(self) -> Any:
        import av

        self.source.seek(0)
        return av.open(self.source, format="mp4" if self.format == "MP4" else "matroska")

    def seconds(self) -> float:
        """Returns the length of the track: by its header, or else by all packets."""
        with self.open() as container:
            if not container.streams.audio:
                raise ValueError("it has no audio track")
            track = container.streams.audio[0]
            if track.codec_context is None:
                raise ValueError("FFmpeg has no decoder for its audio track")
            if track.duration:
                return float(track.duration * track.time_base)
            start = float((track.start_time or 0) * track.time_base)
            told = container.duration and container.duration / 1_000_000
            if told and len(container.streams) == 1:
                return told - start
            ends = dict.fromkeys(range(len(container.streams)), 0.0)
            for packet in container.demux():
                if packet.pts is not None:
                    end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                    ends[packet.stream_index] = max(end, ends[packet.stream_index])
            if told and told - max(ends.values()) > CUT_OFF:
                raise ValueError(f"it is cut off after {max(ends.values()):.1f} of {told:.1f} s")
            return ends[track.index] - start

    def blocks(self) -> Iterator[Block]:
        """Yields what is decoded from where the container stands."""
        for frame in self.container.decode(self.track):
            if self.start is None:
                self.start = frame.pts
            place = round((frame.pts - self.start) * frame.time_base * frame.sample_rate)
            for floats in self.floats.resample(frame):
                yield Block(floats.to_ndarray(), place)

    def samples(self, blocks: Iterable[Block], place: int) -> Iterator[np.ndarray]:
        """Yields the samples of blocks, of which the first lies at a place."""
        for block in blocks:
            silence = min(self.exact(block.place), self.frames) - place
            if silence > GAP * self.samplerate:
                yield np.zeros((self.channels, silence), dtype=np.float32)
                place += silence
            yield block.samples
            place += block.samples.shape[1]

    def seek(self, sample: int) -> None:
        """Goes to a sample from the beginning, where it stands at first."""
        if sample:
            self.ahead = self.samples_from(sample)

    def samples_from(self, sample: int) -> Iterator[np.ndarray]:
        # Before it, because an index may lead to what follows a time.
        time = int(max(0.0, sample / self.samplerate - GAP) / self.track.time_base)
        self.container.seek((self.start or 0) + time, stream=self.track)
        blocks = self.blocks()
        for first in islice(blocks, 1):
            place = self.exact(first.place)
            yield np.zeros((self.channels, max(0, place - sample)), dtype=np.float32)
            for samples in self.samples(chain([first], blocks), place):
                yield samples[:, max(0, sample - place) :]
                place += samples.shape[1]

    def exact(self, place: int) -> int:
        """Returns where a block begins. Timestamps of WebM are rounded to milliseconds, but all
        blocks after the first are as long as the second."""
        first, length = (block.samples.shape[1] for block in (self.head[0], self.head[-1]))
        found = first + length * round((place - first) / length)
        return found if abs(found - place) <= self.samplerate * self.track.time_base else place

    def read(self, frames: int = -1, dtype: str = "float32", always_2d: bool = True) -> np.ndarray:
        """Returns (samples, channels) from where it stands: so many, or all."""
        found = [np.zeros((self.channels, 0), dtype=dtype)]
        with ffmpeg_errors():
            while frames and (block := next(self.ahead, None)) is not None:
                if 0 < frames < block.shape[1]:
                    self.ahead = chain([block[:, frames:]], self.ahead)
                    block = block[:, :frames]
                found.append(block)
                frames -= block.shape[1] if frames > 0 else 0
        return np.concatenate(found, axis=1).T


@contextmanager
def ffmpeg_errors() -> Iterator[None]:
    import av

    try:
        yield
    except av.FFmpegError as error:
        raise ValueError(error.strerror) from None
