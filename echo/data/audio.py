"""Recordings: whatever libsndfile reads becomes mono float32 at 16 kHz."""

import io
import mmap
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
import soundfile
import torch
from torchaudio.transforms import Resample

from echo.data.whole import Content, not_heard
from echo.model.geometry import SAMPLE_RATE
from echo.support.errors import DataError
from echo.support.files import refuse_pipe

MAX_RATE = 1_000_000  # Hz: above that a header is damaged, and resampling takes gigabytes
# Suffixes of audio that libsndfile does not read, or knows under another name.
OTHER_SUFFIXES = re.compile(
    "3g2|3gp|aac|ac3|aif|aifc|alac|amr|ape|asf|avi|awb|ds2|dsf|dss|flv|gsm|m4a|m4b|m4r|m4v|mka|mkv|"
    "mov|mp1|mp2|mp4|mpc|mpeg|mpga|oga|ogv|opus|qt|ra|rm|snd|sph|spx|tta|vox|webm|weba|wma|wmv|wv"
)
SUFFIXES = (".flac", ".wav", ".opus", ".ogg", ".mp3")  # of recordings
MAX_CHANNELS = 64  # what large microphone arrays have
MAX_SAMPLE = 16.0  # 24 dB above full scale: samples beyond that are on the scale of integers
CANCELLED = 0.25  # the share of a channel's power in a mix below which it is lost
FAINT = 0.01  # of the mean power: what is 20 dB below does not decide how channels are mixed
# How much shorter than its header says an undamaged recording may be: decoders differ by about a
# frame.
TOLERANCE_SECONDS = 0.2
TOLERANCE_SHARE = 0.001
# Seconds decoded before a slice and dropped: an MP3 frame may need bytes of those before it, and an
# Opus decoder takes seconds to reach the state that it has in the whole recording.
PREROLL = {"MPEG_LAYER_III": 1.0, "OPUS": 8.0}
SLICE_TOLERANCE = 0.05  # seconds: a slice may end so far behind the recording, as times are rounded
UNKNOWN_LENGTH = 2**63 - 1  # samples: libsndfile's answer for a FLAC written into a pipe

# What soundfile raises for a bad file: TypeError for .raw, which has no header, ValueError for an
# invalid file name, MemoryError for a header that claims too much.
UNREADABLE = (soundfile.LibsndfileError, OSError, TypeError, ValueError, MemoryError)


# Chooses of a recording, by its number of samples and its rate, the first sample and the end.
Choice = Callable[[int, int], tuple[int, int]]


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
class AudioSlice(Audio):
    """A part of a recording: from `start` to `end`, in seconds; without an end, all the rest.

    It sounds as it does in the whole recording, of which only this part is decoded. `read` gives
    the samples from round(start * rate) up to round(end * rate), as they are in the whole: exactly
    where the format is WAV, FLAC or Vorbis, to 1e-5 of full scale for MP3 and to 1e-3 for Opus.
    `load` gives the whole recording's samples at 16 kHz from round(start * 16000) up to
    round(end * 16000): it resamples with a margin that it then cuts off, so that slices that
    follow one another join without a seam. How channels are mixed is decided by the slice alone.
    """

    audio: Audio
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

    def fetch(self) -> "AudioSlice":
        return replace(self, audio=self.audio.fetch())

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


def decode(
    source: Path | io.BytesIO, name: str, choose: Choice | None = None
) -> tuple[torch.Tensor, int]:
    """Decodes one recording, or what is chosen of it, as it was made: (channels, samples) float32,
    and its rate in Hz."""
    with opened(source, name) as file:
        rate = file.samplerate
        if choose is not None:
            return read_slice(file, name, choose), rate
        samples = read_samples(file, name)
        seconds, promised = samples.shape[1] / rate, file.frames / rate
        with content_of(source) as content:
            rest = not_heard(content, file.format, seconds)
        # The length of an MP3 may be an estimate: its frames tell.
        tolerance = max(TOLERANCE_SECONDS, TOLERANCE_SHARE * promised)
        if not rest and file.format != "MP3" and promised - seconds > tolerance:
            rest = f"it is damaged: its header says {promised:.1f} s"
        if rest:
            raise DataError(
                f"{name}: only {seconds:.1f} s of the recording can be decoded, because {rest}; "
                "convert it again, as with ffmpeg"
            )
        return samples, rate


def read_slice(file: soundfile.SoundFile, name: str, choose: Choice) -> torch.Tensor:
    """Returns what is chosen of a recording, (channels, samples) float32, without decoding much
    more."""
    first, end = choose(file.frames, file.samplerate)
    preroll = min(first, round(PREROLL.get(file.subtype, 0.0) * file.samplerate))
    with quiet_decoder(file):
        file.seek(first - preroll)
        samples = read_samples(file, name, end - first + preroll)[:, preroll:]
    if samples.shape[-1] < end - first:
        raise DataError(f"{name}: is damaged: it ends before its header says")
    return samples


STDERR = Lock()  # held while it leads elsewhere


@contextmanager
def quiet_decoder(file: soundfile.SoundFile) -> Iterator[None]:
    """Keeps mpg123 from writing to stderr that the first frames after a seek lack bytes of those
    before them, all of which the pre-roll drops. Its library has no switch for that."""
    if file.subtype != "MPEG_LAYER_III":
        yield
        return
    with STDERR:
        before = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
            os.close(nowhere)


@contextmanager
def content_of(source: Path | io.BytesIO) -> Iterator[Content]:
    if isinstance(source, io.BytesIO):
        yield source.getvalue()
        return
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


def read_samples(file: soundfile.SoundFile, name: str, frames: int = -1) -> torch.Tensor:
    """Returns (channels, samples) float32 from where the file stands: so many, or all."""
    samples = torch.from_numpy(file.read(frames, dtype="float32", always_2d=True).T)
    return on_scale(samples, name)


def on_scale(samples: torch.Tensor, name: str) -> torch.Tensor:
    """Returns the samples themselves. DataError where they are integers written as floats: features
    depend on the scale, so that speech would not be understood."""
    peak = samples.abs().max().item() if samples.numel() else 0.0
    if MAX_SAMPLE < peak < float("inf"):
        raise DataError(
            f"{name}: the recording has samples of {peak:,.0f}, but full scale is 1: divide them "
            "by the largest integer of their format, as 32768"
        )
    return samples


def to_mono_16k(samples: torch.Tensor, rate: int, name: str) -> torch.Tensor:
    """Mixes (channels, samples) at `rate` Hz down to (samples,) at 16 kHz. DataError if there are
    no samples or too many channels, if some are not finite, or if the rate is too high."""
    if rate > MAX_RATE:
        raise DataError(f"{name}: the recording has an invalid rate of {rate} Hz")
    if samples.shape[-1] == 0:
        raise DataError(f"{name}: the recording is empty")
    if len(samples) > MAX_CHANNELS:
        raise DataError(
            f"{name}: the recording has {len(samples)} channels, more than {MAX_CHANNELS}"
        )
    if not torch.isfinite(samples).all():
        raise DataError(f"{name}: the recording holds samples that are not finite numbers")
    mono = mixed(samples, rate)
    rate = plain_rate(rate)
    return mono if rate == SAMPLE_RATE else resampler(rate, SAMPLE_RATE)(mono)


def mixed(samples: torch.Tensor, rate: int) -> torch.Tensor:
    """Returns the mean of (channels, samples). Where channels cancel each other out, as those of a
    microphone wired the wrong way round do, those opposed to the loudest are turned round first;
    where that does not help, it is the loudest alone."""
    if not cancels(samples, rate):
        return samples.mean(0)
    loudest = samples[samples.var(1, correction=0).argmax()]
    turned = torch.where((samples @ loudest < 0)[:, None], -samples, samples)
    return loudest if cancels(turned, rate) else turned.mean(0)


def cancels(samples: torch.Tensor, rate: int) -> bool:
    """Tells whether (channels, samples) cancel each other out: whether their sum has almost nothing
    of what a channel holds, among the louder ones and in any second that is not much fainter than
    the others."""
    if len(samples) == 1:
        return False
    # Without constant offsets, which cheap sound cards add to each channel.
    covariances = torch.stack([second.cov(correction=0) for second in samples.split(rate, -1)])
    powers = covariances.diagonal(dim1=1, dim2=2)
    kept = covariances.sum(2).abs()  # of unrelated channels as much as the power
    loudest = powers.amax(1, keepdim=True)
    lost = (kept < CANCELLED * powers) & (powers > loudest / 2) & (loudest > FAINT * loudest.mean())
    return bool(lost.any())


def named_like_audio(path: Path) -> bool:
    """Tells whether a file is named like audio, be it audio that can be read or not, and is not
    hidden."""
    suffix = path.suffix.lstrip(".").lower()
    known = OTHER_SUFFIXES.fullmatch(suffix) or suffix.upper() in soundfile.available_formats()
    return bool(known) and suffix != "raw" and not path.name.startswith(".")


def plain_rate(rate: int) -> int:
    """Returns the rate that one counts as in resampling, whose kernel grows with the terms of the
    reduced ratio rate : 16 kHz. So an odd rate such as 44,056 Hz is rounded to a multiple of 25 Hz,
    0.02 % off."""
    return max(25, 25 * round(rate / 25))


def resampling(rate: int) -> tuple[int, int, int]:
    """Returns the step of resampling to 16 kHz, in samples before and after, and how many samples
    around one it depends on, at the most."""
    rate = plain_rate(rate)
    if rate == SAMPLE_RATE:
        return 1, 1, 0
    made = resampler(rate, SAMPLE_RATE)
    step = rate // made.gcd
    return step, SAMPLE_RATE // made.gcd, made.width + step


@lru_cache(maxsize=32)
def resampler(rate: int, new_rate: int) -> Resample:
    """Returns a resampler, cached because building its kernel costs more than using it."""
    return Resample(rate, new_rate)


def header_duration(source: Path | io.BytesIO, name: str = "") -> float:
    """Returns the seconds of audio by the recording's header, without decoding. Messages name a
    file by its path unless another name is given."""
    with opened(source, name or str(source)) as file:
        return file.frames / file.samplerate


@contextmanager
def opened(source: Path | io.BytesIO, name: str) -> Iterator[soundfile.SoundFile]:
    """Opens a recording. Errors while it is open become a DataError."""
    try:
        if isinstance(source, Path):
            refuse_pipe(source)
        # As bytes: soundfile cannot encode a name that is not UTF-8.
        place = os.fsencode(source) if isinstance(source, Path) else source
        with soundfile.SoundFile(place) as file:
            if file.frames <= 0:
                raise DataError(f"{name}: the recording is empty")
            if file.frames == UNKNOWN_LENGTH:  # libsndfile would decode only its first block
                raise DataError(f"{name}: the header gives no length: convert the recording again")
            yield file
    except UNREADABLE as error:
        raise DataError(f"{name}: {refusal(source, error)}") from None


def refusal(source: Path | io.BytesIO, error: Exception) -> str:
    """Returns why a recording cannot be read, by what soundfile or the system raised."""
    if isinstance(source, Path):  # libsndfile says only "System error" where the system refuses
        try:
            refuse_pipe(source)
            source.open("rb").close()
        except (FileNotFoundError, ValueError):
            return "no such recording"
        except OSError as refusal:
            return f"cannot be read ({refusal.strerror})"
    # libsndfile's own message repeats the path, or the address of a buffer: keep its reason.
    return f"cannot be read as audio ({str(getattr(error, 'error_string', error)).rstrip('.')})"
