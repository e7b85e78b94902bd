"""Recordings: whatever libsndfile or PyAV reads becomes mono float32 at 16 kHz."""

import io
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch

from echo.data.mixing import MAX_CHANNELS, MAX_RATE, resampling, to_mono_16k
from echo.data.sound_file import Choice, decode, header_duration, on_scale, refusal
from echo.model.geometry import SAMPLE_RATE
from echo.support.errors import DataError

CHANNELS = ("left", "right")  # the first two
SLICE_TOLERANCE = 0.05  # seconds: a slice may end so far behind the recording, as times are rounded


class Audio(ABC):
    """A recording, wherever it lies. `str` gives its name for messages.

    Every method raises DataError, naming the recording, where it is missing, unreadable, damaged
    or empty.
    """

    @abstractmethod
    def read(self) -> tuple[torch.Tensor, int]:
        """Decodes it as it was recorded: (channels, samples) float32, and the rate in Hz."""

    def read_some(self, choose: Choice) -> tuple[torch.Tensor, int]:
        """Decodes as `read` does, but only what is chosen of it where its kind can be cut."""
        samples, rate = self.read()
        first, end = choose(samples.shape[-1], rate)
        return samples[:, first:end], rate

    def load(self) -> torch.Tensor:
        """Decodes it to (samples,) float32, mono at 16 kHz."""
        return to_mono_16k(*self.read(), str(self))

    def seconds(self) -> float:
        """Returns its length in seconds: by its header, without decoding, where it has one."""
        samples, rate = self.read()
        return samples.shape[-1] / rate

    def encoded(self) -> bytes | None:
        """Returns the content of its file; None for plain samples."""
        return None

    def identity(self) -> bytes | None:
        """Returns what its samples depend on, for caches; None where nothing is decoded."""
        return None

    def fetch(self) -> "Audio":
        """Returns itself, or what it refers to: so that who calls several methods opens it once."""
        return self

    def as_slice(self) -> "AudioSlice | None":
        """Returns the slice of a longer recording that it is, without opening it; None if it is a
        recording of its own."""
        return None

    def only_channel(self) -> int | None:
        """Returns the number of the channel that it is, without opening it; None if it is all."""
        return None

    def whole(self) -> "Audio":
        """Returns the recording of which it is a slice or a channel; itself if it is neither."""
        return self


@dataclass(frozen=True)
class AudioFile(Audio):
    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def read(self) -> tuple[torch.Tensor, int]:
        return decode(self.path, str(self))

    def read_some(self, choose: Choice) -> tuple[torch.Tensor, int]:
        return decode(self.path, str(self), choose)

    def seconds(self) -> float:
        return header_duration(self.path)

    def encoded(self) -> bytes:
        try:
            return self.path.read_bytes()
        except (OSError, ValueError) as error:
            raise DataError(f"{self}: {refusal(self.path, error)}") from None

    def identity(self) -> bytes | None:
        """Its path, size and time of change; None where it is gone."""
        try:
            status = self.path.stat()
        except (OSError, ValueError):
            return None
        place = os.fsencode(self.path.absolute())
        return b"%b %d %d" % (place, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class AudioBytes(Audio):
    """An encoded recording held in memory, as Arrow tables carry it."""

    content: bytes
    name: str

    def __str__(self) -> str:
        return self.name

    def read(self) -> tuple[torch.Tensor, int]:
        return decode(io.BytesIO(self.content), self.name)

    def read_some(self, choose: Choice) -> tuple[torch.Tensor, int]:
        return decode(io.BytesIO(self.content), self.name, choose)

    def seconds(self) -> float:
        return header_duration(io.BytesIO(self.content), self.name)

    def encoded(self) -> bytes:
        return self.content

    def identity(self) -> bytes:
        return self.content


@dataclass(frozen=True, eq=False)  # arrays have no one truth of being equal
class AudioArray(Audio):
    """Samples that some other library has decoded already."""

    samples: np.ndarray  # (samples,), (channels, samples) or (samples, channels)
    rate: int
    name: str

    def __str__(self) -> str:
        return self.name

    def read(self) -> tuple[torch.Tensor, int]:
        samples = np.asarray(self.samples)
        if samples.dtype.kind != "f":
            raise DataError(f"{self}: samples must be floats from -1 to 1, not {samples.dtype}")
        if not 1 <= samples.ndim <= 2 or (samples.ndim == 2 and min(samples.shape) > MAX_CHANNELS):
            raise DataError(
                f"{self}: an array of the shape {samples.shape} is no recording: it must have "
                f"samples, and up to {MAX_CHANNELS} channels"
            )
        if samples.ndim == 2 and samples.shape[0] > samples.shape[1]:
            samples = samples.T  # as soundfile reads it: there are fewer channels than samples
        channels = torch.as_tensor(np.ascontiguousarray(samples), dtype=torch.float32)
        return on_scale(torch.atleast_2d(channels), self.name), self.rate


@dataclass(frozen=True)
class JoinedAudio(Audio):
    """Several recordings one after another, with a pause (in seconds) before each."""

    parts: tuple[Audio, ...]
    pauses: tuple[float, ...]

    def __str__(self) -> str:
        return "+".join(map(str, self.parts))

    def read(self) -> tuple[torch.Tensor, int]:
        pieces = []
        for part, pause in zip(self.parts, self.pauses, strict=True):
            pieces += [torch.zeros(round(pause * SAMPLE_RATE)), part.load()]
        return torch.cat(pieces)[None], SAMPLE_RATE


@dataclass(frozen=True)
class AudioView(Audio):
    """What is heard of another recording: all of it, unless a kind of view says otherwise."""

    audio: Audio

    def __str__(self) -> str:
        return str(self.audio)

    def read(self) -> tuple[torch.Tensor, int]:
        return self.audio.read()

    def seconds(self) -> float:
        return self.audio.seconds()

    def identity(self) -> bytes | None:
        return self.audio.identity()

    def fetch(self) -> Self:
        return replace(self, audio=self.audio.fetch())

    def as_slice(self) -> "AudioSlice | None":
        return self.audio.as_slice()

    def only_channel(self) -> int | None:
        return self.audio.only_channel()

    def whole(self) -> Audio:
        return self.audio.whole()


@dataclass(frozen=True)
class AudioChannel(AudioView):
    """One channel of a recording, by its number from 0. A part of it is an AudioSlice of this."""

    number: int

    def __str__(self) -> str:
        return f"{self.audio}, channel {channel_name(self.number)}"

    def read(self) -> tuple[torch.Tensor, int]:
        samples, rate = self.audio.read()
        return self.alone(samples), rate

    def read_some(self, choose: Choice) -> tuple[torch.Tensor, int]:
        samples, rate = self.audio.read_some(choose)
        return self.alone(samples), rate

    def alone(self, samples: torch.Tensor) -> torch.Tensor:
        check_channel(self.number, len(samples), str(self.audio))
        return samples[self.number : self.number + 1]

    def identity(self) -> bytes | None:
        whole = self.audio.identity()
        return None if whole is None else b"%b channel %d" % (whole, self.number)

    def only_channel(self) -> int:
        return self.number


def channel_name(number: int) -> str:
    """Returns what a channel is called in names and manifests."""
    return CHANNELS[number] if number < len(CHANNELS) else str(number)


def check_channel(number: int, channels: int, name: str) -> None:
    """Raises DataError where a recording of that name has no such channel."""
    if number >= channels:
        raise DataError(
            f"{name}: has {channels} channel{'s' * (channels > 1)}, so there is no channel "
            f"{channel_name(number)} (left is 0, right is 1)"
        )


@dataclass(frozen=True)
class AudioSlice(AudioView):
    """A part of a recording: from `start` to `end`, in seconds; without an end, all the rest.

    It sounds as it does in the whole recording, of which only this part is decoded. `read` gives
    the samples from round(start * rate) up to round(end * rate), as they are in the whole: exactly
    where the format is WAV, FLAC or Vorbis, to 1e-5 of full scale for MP3 and to 1e-3 for Opus.
    `load` gives the whole recording's samples at 16 kHz from round(start * 16000) up to
    round(end * 16000): it resamples with a margin that it then cuts off, so that slices that
    follow one another join without a seam. How channels are mixed is decided by the slice alone.
    """

    start: float
    end: float | None = None

    def __str__(self) -> str:
        return f"{self.audio} from {clock(self.start)} s" + (
            "" if self.end is None else f" to {clock(self.end)} s"
        )

    def read(self) -> tuple[torch.Tensor, int]:
        return self.audio.read_some(self.bounds)

    def load(self) -> torch.Tensor:
        samples, rate = self.audio.read_some(self.around)
        heard = to_mono_16k(samples, rate, str(self))
        step, resampled, margin = resampling(rate)
        before = self.begin(rate, step, margin) // step * resampled
        scale = rate * resampled / step
        end = None if self.end is None else round(self.end * scale) - before
        # A copy, aligned as decoded samples are: rounding in products may depend on alignment.
        heard = heard[round(self.start * scale) - before : end].clone()
        if not len(heard):
            raise DataError(f"{self}: holds no sample")
        return heard

    def bounds(self, samples: int, rate: int) -> tuple[int, int]:
        """Chooses its own samples."""
        self.check(samples / rate)
        first = round(self.start * rate)
        end = samples if self.end is None else min(round(self.end * rate), samples)
        if first >= end:
            raise DataError(f"{self}: holds no sample")
        return first, end

    def around(self, samples: int, rate: int) -> tuple[int, int]:
        """Chooses its own samples and those by which resampling them is as in the whole."""
        _, end = self.bounds(samples, rate)
        step, _, margin = resampling(min(rate, MAX_RATE))  # above which it is refused once read
        return self.begin(rate, step, margin), min(end + margin, samples)

    def begin(self, rate: int, step: int, margin: int) -> int:
        """Returns the first sample that resampling needs, a whole number of its steps."""
        return max(0, (round(self.start * rate) - margin) // step * step)

    def check(self, seconds: float) -> None:
        """Raises DataError unless it lies within a recording of that length."""
        if self.start >= seconds or (self.end or 0.0) > seconds + SLICE_TOLERANCE:
            raise DataError(
                f"{self}: lies past the end of the recording, which lasts {seconds:.3f} s"
            )

    def seconds(self) -> float:
        whole = self.audio.seconds()
        self.check(whole)
        return (whole if self.end is None else min(self.end, whole)) - self.start

    def identity(self) -> bytes | None:
        whole = self.audio.identity()
        return None if whole is None else b"%b %r %r" % (whole, self.start, self.end)

    def as_slice(self) -> "AudioSlice":
        return self


def clock(seconds: float) -> str:
    """Returns seconds to a thousandth, without zeros at the end."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".")


class AudioReference(Audio):
    """A recording that is looked up when it is asked for: a kind of its own needs `fetch` alone."""

    @abstractmethod
    def fetch(self) -> Audio: ...

    def read(self) -> tuple[torch.Tensor, int]:
        return self.fetch().read()

    def read_some(self, choose: Choice) -> tuple[torch.Tensor, int]:
        return self.fetch().read_some(choose)

    def load(self) -> torch.Tensor:
        return self.fetch().load()

    def seconds(self) -> float:
        return self.fetch().seconds()

    def encoded(self) -> bytes | None:
        return self.fetch().encoded()

    def identity(self) -> bytes | None:
        return self.fetch().identity()
