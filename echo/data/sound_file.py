"""Decoding: whatever libsndfile or PyAV reads becomes samples as they were recorded."""

import io
import mmap
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TypeAlias

import soundfile
import torch

from echo.data import containers
from echo.data.containers import ContainerFile, container_format
from echo.data.whole import Content, not_heard
from echo.support.errors import DataError
from echo.support.files import refuse_pipe

# Suffixes of audio that libsndfile does not read, or knows under another name.
OTHER_SUFFIXES = re.compile(
    "3g2|3gp|aac|ac3|aif|aifc|alac|amr|ape|asf|avi|awb|ds2|dsf|dss|flv|gsm|m4a|m4b|m4r|m4v|mka|mkv|"
    "mov|mp1|mp2|mp4|mpc|mpeg|mpga|oga|ogv|opus|qt|ra|rm|snd|sph|spx|tta|vox|webm|weba|wma|wmv|wv"
)
SUFFIXES = (".flac", ".wav", ".opus", ".ogg", ".mp3", *containers.SUFFIXES)  # of recordings
READABLE = SUFFIXES if containers.AVAILABLE else SUFFIXES[: -len(containers.SUFFIXES)]
MAX_SAMPLE = 16.0  # 24 dB above full scale: samples beyond that are on the scale of integers
# How much shorter than its header says an undamaged recording may be: decoders differ by about a
# frame.
TOLERANCE_SECONDS = 0.2
TOLERANCE_SHARE = 0.001
# Seconds decoded before a slice and dropped: an MP3 frame may need bytes of those before it, and an
# Opus decoder takes seconds to reach the state that it has in the whole recording. Those of
# containers bear FFmpeg's names.
PREROLL = {"MPEG_LAYER_III": 1.0, "OPUS": 8.0, "opus": 8.0, "aac": 1.0, "vorbis": 1.0, "mp3": 1.0}
UNKNOWN_LENGTH = 2**63 - 1  # samples: libsndfile's answer for a FLAC written into a pipe

# What soundfile raises for a bad file: TypeError for .raw, which has no header, ValueError for an
# invalid file name, MemoryError for a header that claims too much.
UNREADABLE = (soundfile.LibsndfileError, OSError, TypeError, ValueError, MemoryError)


SoundFile: TypeAlias = soundfile.SoundFile | ContainerFile
# Chooses of a recording, by its number of samples and its rate, the first sample and the end.
Choice = Callable[[int, int], tuple[int, int]]


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
        if not rest and file.format != "MP3" and abs(promised - seconds) > tolerance:
            rest = f"it is damaged: its header says {promised:.1f} s"
        if rest:
            raise DataError(
                f"{name}: only {seconds:.1f} s of the recording can be decoded, because {rest}; "
                "convert it again, as with ffmpeg"
            )
        return samples, rate


def read_slice(file: SoundFile, name: str, choose: Choice) -> torch.Tensor:
    """Returns what is chosen of a recording, (channels, samples) float32, without decoding much
    more."""
    first, end = choose(file.frames, file.samplerate)
    preroll = min(first, round(PREROLL.get(file.subtype, 0.0) * file.samplerate))
    with quiet_decoder(file):
        file.seek(first - preroll)
        samples = read_samples(file, name, end - first + preroll)[:, preroll:]
    # The header of a container may be off by a frame.
    tolerance = TOLERANCE_SECONDS * file.samplerate if isinstance(file, ContainerFile) else 0
    if samples.shape[-1] < end - first - tolerance:
        raise DataError(f"{name}: is damaged: it ends before its header says")
    return samples


STDERR = Lock()  # held while it leads elsewhere


@contextmanager
def quiet_decoder(file: SoundFile) -> Iterator[None]:
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


def read_samples(file: SoundFile, name: str, frames: int = -1) -> torch.Tensor:
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


def named_like_audio(path: Path) -> bool:
    """Tells whether a file is named like audio, be it audio that can be read or not, and is not
    hidden."""
    suffix = path.suffix.lstrip(".").lower()
    known = OTHER_SUFFIXES.fullmatch(suffix) or suffix.upper() in soundfile.available_formats()
    return bool(known) and suffix != "raw" and not path.name.startswith(".")


def header_duration(source: Path | io.BytesIO, name: str = "") -> float:
    """Returns the seconds of audio by the recording's header, without decoding. Messages name a
    file by its path unless another name is given."""
    with opened(source, name or str(source)) as file:
        return file.frames / file.samplerate


@contextmanager
def opened(source: Path | io.BytesIO, name: str) -> Iterator[SoundFile]:
    """Opens a recording. Errors while it is open become a DataError."""
    try:
        if isinstance(source, Path):
            refuse_pipe(source)
        with sound_file(source, name) as file:
            if file.frames <= 0:
                raise DataError(f"{name}: the recording is empty")
            if file.frames == UNKNOWN_LENGTH:  # libsndfile would decode only its first block
                raise DataError(f"{name}: the header gives no length: convert the recording again")
            yield file
    except UNREADABLE as error:
        raise DataError(f"{name}: {refusal(source, error)}") from None


def sound_file(source: Path | io.BytesIO, name: str) -> SoundFile:
    """Opens a recording by what can read it."""
    # As bytes: soundfile cannot encode a name that is not UTF-8.
    place = os.fsencode(source) if isinstance(source, Path) else source
    try:
        return soundfile.SoundFile(place)
    except soundfile.LibsndfileError:
        if format := container_format(source):
            return ContainerFile(source, format, name)
        raise


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
