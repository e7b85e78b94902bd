"""Writes any source as tar shards in WebDataset's layout, with a manifest beside them."""

import hashlib
import io
import json
import logging
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import torch

from echo.config import OnError
from echo.data.audio import Audio, channel_name
from echo.data.mixing import to_mono_16k
from echo.data.prepare.workers import done_with
from echo.data.sources.tar import SHARD_MANIFEST, SUFFIX, ShardEntry
from echo.data.utterance import Utterance
from echo.model.geometry import SAMPLE_RATE
from echo.support.errors import DataError
from echo.support.files import new_folder, replace_text, whole_file
from echo.support.progress import progress_bar

Format = Literal["flac", "opus"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Encoded:
    """An utterance with its recording as a file's content."""

    utterance: Utterance
    content: bytes
    seconds: float


def write_shards(
    rows: Iterable[Utterance | DataError],
    out: Path,
    format: Format = "flac",
    max_utterances: int = 1000,
    max_seconds: float = float("inf"),
    on_error: OnError = "raise",
    workers: int = 0,
    progress: bool = False,
) -> list[ShardEntry]:
    """Writes shards of so many utterances and seconds at the most, and then their manifest. A shard
    bears its name once it is whole. The shards are the same for any number of workers.

    Args:
        workers: processes that encode; 0 encodes in this one.
        progress: whether a bar shows how many utterances are written.

    Raises:
        EchoError: the folder holds something, or cannot be written to.
        DataError: a row cannot be used and `on_error` is "raise", or none can.
    """
    new_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    entries: list[ShardEntry] = []
    number = count()
    found = encode_all(rows, format, on_error, workers)
    # Iterated, the bar ends its line before an error is shown.
    encoded = iter(progress_bar(found, unit=" utterances", shown=progress))
    current = next(encoded, None)
    while current:
        name = f"shard-{len(entries):06d}{SUFFIX}"
        utterances, seconds = 0, 0.0
        with whole_file(out / name) as temporary:
            with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
                while current and utterances < max_utterances:
                    if utterances and seconds + current.seconds > max_seconds:
                        break
                    key = file_key(next(number), current.utterance.id)
                    add(tar, f"{key}.json", metadata(current))
                    add(tar, f"{key}.{format}", current.content)
                    utterances, seconds = utterances + 1, seconds + current.seconds
                    current = next(encoded, None)
            with temporary.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = temporary.stat().st_size
        entries.append(ShardEntry(name, utterances, seconds, size, digest))
    if not entries:
        raise DataError("no utterance is left to write")
    replace_text(
        out / SHARD_MANIFEST, "".join(json.dumps(asdict(entry)) + "\n" for entry in entries)
    )
    return entries


def file_key(number: int, id: str) -> str:
    """Returns a name for the files of an utterance: no dot, at which a key ends, and nothing that
    leads to another folder."""
    safe = re.sub(r"[^A-Za-z0-9_-]+", "_", id)[-80:]
    return f"{number:09d}-{safe}"


def encode_all(
    rows: Iterable[Utterance | DataError], format: Format, on_error: OnError, workers: int
) -> Iterator[Encoded]:
    """Yields the rows in their order, of which workers are a few ahead."""
    skipped = 0
    for found in done_with(rows, partial(encode, format=format), workers):
        if not isinstance(found, DataError):
            yield found
        elif on_error == "raise":
            raise found
        else:
            skipped += 1
            logger.warning("skipped: %s", found)
    if skipped:
        logger.warning("%d utterances skipped", skipped)


def encode(row: Utterance, format: Format) -> Encoded:
    """Encodes a row's recording. FLAC holds the recording's own samples, of lossy formats rounded
    to 16 bits; Opus is mono at 16 kHz. A recording that is in the format already stays as it is.
    DataError if it cannot be read, or has more channels or a rate than FLAC takes."""
    audio = row.audio.fetch()
    samples, rate = audio.read()
    mono = to_mono_16k(samples, rate, row.id)  # refuses what training would refuse
    content = audio.encoded()
    if content is None or not in_format(content, format):
        try:
            if format == "flac":
                content = write(*as_integers(samples), rate, "FLAC")
            else:
                content = write(mono.numpy()[:, None], "OPUS", SAMPLE_RATE, "OGG")
        except soundfile.LibsndfileError as error:
            raise DataError(f"cannot be written as {format} ({error})") from None
    return Encoded(row, content, samples.shape[-1] / rate)


def in_format(content: bytes, format: Format) -> bool:
    """Tells whether a file's content is of this format."""
    head = content[:64]
    if format == "flac":
        return head.startswith(b"fLaC")
    return head.startswith(b"OggS") and b"OpusHead" in head


def as_integers(samples: torch.Tensor) -> tuple[np.ndarray, str]:
    """Returns (channels, samples) floats as (samples, channels) of integers, and the FLAC subtype
    that takes them; exact where they were integers of up to 24 bits."""
    scaled = samples.double().T * 2**23
    subtype = "PCM_24"
    if not torch.equal(scaled, scaled.round()) or not (scaled % 2**8).any():
        scaled = (scaled / 2**8).round().clamp(-(2**15), 2**15 - 1) * 2**8
        subtype = "PCM_16"
    # 32 bits wide, of which libsndfile drops the lower: floats it would scale by 2**15 - 1.
    scaled = scaled.clamp(-(2**23), 2**23 - 1)
    return (scaled * 2**8).numpy().astype(np.int32), subtype


def write(samples: np.ndarray, subtype: str, rate: int, format: str) -> bytes:
    """Returns a file's content, written by seconds: libsndfile's Opus encoder fails on long
    pieces."""
    buffer = io.BytesIO()
    channels = samples.shape[1]
    with soundfile.SoundFile(buffer, "w", rate, channels, subtype, format=format) as file:
        for start in range(0, len(samples), rate):
            file.write(samples[start : start + rate])
    return buffer.getvalue()


def origin(audio: Audio) -> dict[str, float | str]:
    """Returns where a part or channel lay in its recording, of which it is cut out."""
    part, channel = audio.as_slice(), audio.only_channel()
    return {
        **({"recording_offset": part.start} if part else {}),
        **({"recording_channel": channel_name(channel)} if channel is not None else {}),
    }


def metadata(encoded: Encoded) -> bytes:
    row = encoded.utterance
    plain = {k: v for k, v in row.extra.items() if isinstance(v, str | int | float)}
    record = {
        **plain,
        **origin(row.audio),
        "id": row.id,
        "text": row.text,
        "duration": encoded.seconds,
    }
    if row.speaker is not None:
        record["speaker"] = row.speaker
    return json.dumps(record, ensure_ascii=False).encode()


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))
