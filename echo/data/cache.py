"""Decoded recordings kept on disk, for formats whose decoding is the slowest part of loading."""

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import soundfile
import torch
import torchaudio

from echo.data.audio import Audio, AudioView
from echo.data.columns import Utterances
from echo.data.containers import AVAILABLE
from echo.data.utterance import Utterance
from echo.model.geometry import SAMPLE_RATE
from echo.support.errors import ConfigError, EchoError
from echo.support.files import UNFINISHED, whole_file

logger = logging.getLogger(__name__)

SUBFOLDER = "echo-audio"  # of the folder in the config, which may hold other things
SUFFIX = ".f32"
# What the samples of a recording depend on, besides the recording.
DECODING = (
    f"mono without cancelling, {SAMPLE_RATE} Hz, libsndfile {soundfile.__libsndfile_version__}, "
    f"torchaudio {torchaudio.__version__}"
) + (f", PyAV {version('av')}" if AVAILABLE else "")
FREED_SHARE = 0.1  # of the limit, freed when it is passed
WRITTEN_SHARE = 0.01  # of the limit: after writing so much, a process checks the limit


class AudioCache:
    """Samples of recordings, about `limit` bytes of them; the least recently used are deleted
    first.

    Any number of processes and runs may share a folder, and none waits for another: an entry
    appears complete or not at all, and never changes. A damaged entry is written again. When
    nothing can be written, as on a full disk, the cache becomes read-only and each process logs
    that once. A folder that cannot be made, or a limit that is not positive, is a ConfigError.

    An entry is named by what it is made of, so a recording that changes gets a new one. It holds a
    CRC-32 and then the samples in little-endian float32, so it is exact.
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

    def __reduce__(self) -> tuple[Any, ...]:
        # Recordings that are sent to a worker all count on one cache there.
        return cache_of_process, (self.folder.parent, self.limit)

    def over(self, utterances: Sequence[Utterance]) -> Utterances:
        """Returns the same utterances, decoded only when their samples are not in the cache."""
        return Utterances.of(utterances).with_audio(partial(CachedAudio, cache=self))

    def load(self, audio: Audio) -> torch.Tensor:
        """Returns and raises what `audio.load()` does, to the bit."""
        audio = audio.fetch()
        identity = audio.identity()
        if identity is None:
            return audio.load()
        key = blake2b(DECODING.encode() + identity, digest_size=16).hexdigest()
        path = self.folder / key[:2] / f"{key[2:]}{SUFFIX}"
        samples = read_entry(path)
        if samples is None:
            samples = audio.load()
            if self.writable:
                self.keep(path, samples)
        return samples

    def keep(self, path: Path, samples: torch.Tensor) -> None:
        try:
            content = samples.numpy().astype("<f4", order="C", copy=False)
            with whole_file(path) as temporary:
                path.parent.mkdir(exist_ok=True)
                with temporary.open("xb") as file:
                    file.write(crc32(content.data).to_bytes(4, "little"))
                    file.write(content.data)
        except EchoError as error:
            self.writable = False
            logger.warning(
                "data.cache: %s; recordings not in it are decoded each time they are needed", error
            )
        self.written += samples.nbytes
        if self.written > WRITTEN_SHARE * self.limit:
            self.evict()

    def evict(self) -> None:
        """Deletes, above the limit, the least recently used entries until well below it."""
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


@lru_cache
def cache_of_process(folder: Path, limit: int) -> AudioCache:
    return AudioCache(folder, limit)


@dataclass(frozen=True)
class CachedAudio(AudioView):
    """A recording whose samples are kept in a cache."""

    cache: AudioCache

    def load(self) -> torch.Tensor:
        return self.cache.load(self.audio)

    def encoded(self) -> bytes | None:
        return self.audio.encoded()


def read_entry(path: Path) -> torch.Tensor | None:
    """Returns the samples of an entry; None where it is missing or damaged."""
    try:
        stored = np.fromfile(path, "<f4")
    except OSError:
        return None
    checksum, samples = stored[:1], stored[1:]
    if not samples.size or checksum.view("<u4")[0] != crc32(samples.data):
        return None
    with suppress(OSError):
        os.utime(path)  # for `evict`: file systems seldom note when a file was read
    # A copy, aligned as decoded samples are: rounding in products may depend on alignment.
    return torch.tensor(samples, dtype=torch.float32)
