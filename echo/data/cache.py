"""Decoded recordings kept on disk, for formats that take longer to decode than all that follows."""

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from zlib import crc32

import numpy as np
import soundfile
import torch
import torchaudio

from echo.data.audio import SAMPLE_RATE, Audio, AudioBytes, AudioFile
from echo.data.sources.datasets import DatasetAudio
from echo.data.utterance import Utterance
from echo.support.errors import ConfigError, EchoError
from echo.support.files import UNFINISHED, whole_file

logger = logging.getLogger(__name__)

SUBFOLDER = "echo-audio"  # of the folder that is named, where other things may lie
SUFFIX = ".f32"
# What the samples of a recording depend on, besides the recording.
DECODING = (
    f"mono, {SAMPLE_RATE} Hz, libsndfile {soundfile.__libsndfile_version__}, "
    f"torchaudio {torchaudio.__version__}"
)
FREED_SHARE = 0.1  # of the limit, when it is passed
WRITTEN_SHARE = 0.01  # of the limit, after which a process looks whether it is passed


class AudioCache:
    """Samples of recordings, of about `limit` bytes; those longest not used go first.

    Any number of processes and runs may share a folder, and none waits for another: an entry
    appears complete or not at all, and never changes. One that cannot be read, or is not what was
    written, is made again. When nothing can be written, as on a full disk, the cache is read
    only from then on, and says so once in each process.

    An entry is named by what it is made of, so a recording that changes gets a new one. It holds
    a CRC-32 and then the samples, in little-endian float32, so that nothing is lost.

    Raises:
        ConfigError: the folder cannot be made, or the limit is none.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        if limit <= 0:
            raise ConfigError("data.cache_gigabytes must be more than 0")
        self.folder = folder / SUBFOLDER
        self.limit = limit
        self.writable = True
        self.written = 0  # bytes, since this process last looked
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"data.cache: {folder} cannot be used ({error.strerror})") from None
        self.evict()

    def over(self, utterances: Sequence[Utterance]) -> list[Utterance]:
        """The same utterances, each decoded once as long as its samples are kept."""
        return [replace(u, audio=CachedAudio(u.audio, self)) for u in utterances]

    def load(self, audio: Audio) -> torch.Tensor:
        """What `audio.load()` returns, to the bit, and raises."""
        if isinstance(audio, DatasetAudio):
            audio = audio.fetch()
        key = key_of(audio)
        if key is None:
            return audio.load()
        path = self.folder / key[:2] / f"{key[2:]}{SUFFIX}"
        samples = read_entry(path)
        if samples is None:
            samples = audio.load()
            if self.writable:
                self.keep(path, samples)
        return samples

    def keep(self, path: Path, samples: torch.Tensor) -> None:
        try:
            write_entry(path, samples)
        except EchoError as error:
            self.writable = False
            logger.warning(
                "data.cache: %s; recordings that the cache lacks are decoded whenever they are "
                "needed",
                error,
            )
        self.written += samples.nbytes
        if self.written > WRITTEN_SHARE * self.limit:
            self.evict()

    def evict(self) -> None:
        """Where the limit is passed, deletes what was longest not used, and some more."""
        self.written = 0
        entries = []
        for path in self.folder.glob("??/*"):
            if path.suffix not in (SUFFIX, UNFINISHED):
                continue
            with suppress(OSError):  # another process was faster to delete it
                status = path.stat()
                entries.append((status.st_mtime_ns, status.st_size, path))
        size = sum(size for _, size, _ in entries)
        wanted = size if size <= self.limit else (1 - FREED_SHARE) * self.limit
        for _, freed, path in sorted(entries):
            if size <= wanted:
                break
            with suppress(OSError):
                path.unlink()
            size -= freed


@dataclass(frozen=True)
class CachedAudio:
    """A recording whose samples are kept in a cache."""

    audio: Audio
    cache: AudioCache

    def load(self) -> torch.Tensor:
        return self.cache.load(self.audio)


def key_of(audio: Audio) -> str | None:
    """A name for what a recording's samples are made of; none where nothing is decoded, or the
    recording is gone."""
    match audio:
        case AudioFile(path):
            try:
                status = path.stat()
            except (OSError, ValueError):
                return None
            content = b"%b %d %d" % (
                os.fsencode(path.absolute()),
                status.st_size,
                status.st_mtime_ns,
            )
        case AudioBytes(content):
            pass
        case _:
            return None
    return blake2b(DECODING.encode() + content, digest_size=16).hexdigest()


def read_entry(path: Path) -> torch.Tensor | None:
    """The samples of an entry; none where there is none, or a damaged one."""
    try:
        stored = np.fromfile(path, "<f4")
    except OSError:
        return None
    checksum, samples = stored[:1], stored[1:]
    if not samples.size or checksum.view("<u4")[0] != crc32(samples.data):
        return None
    with suppress(OSError):
        os.utime(path)  # for `evict`: file systems seldom note when a file was read
    # A copy, which is aligned as decoded samples are: products may round by where numbers lie.
    return torch.tensor(samples, dtype=torch.float32)


def write_entry(path: Path, samples: torch.Tensor) -> None:
    """Makes an entry.

    Raises:
        EchoError: it cannot be written; nothing is left of it.
    """
    content = samples.numpy().astype("<f4", order="C", copy=False)
    with whole_file(path) as temporary:
        path.parent.mkdir(exist_ok=True)
        with temporary.open("xb") as file:
            file.write(crc32(content.data).to_bytes(4, "little"))
            file.write(content.data)
