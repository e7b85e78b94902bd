"""Writes any source as tar shards in WebDataset's layout, with a manifest beside them."""

import hashlib
import io
import json
import logging
import re
import tarfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import count, islice, takewhile
from pathlib import Path
from typing import Any, Literal, get_type_hints

import numpy as np
import soundfile
import torch

from echo.data.audio import Audio, AudioFile, channel_name
from echo.data.mixing import to_mono_16k
from echo.data.prepare.count import Count
from echo.data.prepare.kept_lines import KeptLines
from echo.data.prepare.ogg import without_serial
from echo.data.prepare.workers import done_with
from echo.data.sources.read import MAX_WARNINGS
from echo.data.sources.tar import SHARD_MANIFEST, SUFFIX, ShardEntry
from echo.data.utterance import Utterance
from echo.model.geometry import SAMPLE_RATE
from echo.support.errors import DataError, EchoError
from echo.support.files import UNFINISHED, new_folder, replace_text, whole_file, writing
from echo.support.lock import locked
from echo.support.progress import progress_bar

Format = Literal["flac", "opus"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Encoded:
    """An utterance with its recording as a file's content."""

    utterance: Utterance
    content: bytes
    seconds: float


@dataclass
class Sharded:
    """What became of the rows of a source."""

    digest: str  # of how shards are made, and of the rows that were read
    read: Count = field(default_factory=Count)
    left_out: Count = field(default_factory=Count)
    entries: list[ShardEntry] = field(default_factory=list)

    @property
    def written(self) -> Count:
        entries = self.entries
        return Count(sum(e.utterances for e in entries), sum(e.seconds for e in entries))

    def progress(self) -> dict[str, Any]:
        return {"digest": self.digest, "read": asdict(self.read), "left_out": asdict(self.left_out)}


def write_shards(
    rows: Iterable[Utterance | DataError],
    out: Path,
    format: Format = "flac",
    max_utterances: int = 1000,
    max_seconds: float = float("inf"),
    workers: int = 0,
    progress: bool = False,
) -> Sharded:
    """Writes a folder of shards of so many utterances and seconds at the most, with a manifest; it
    is whole, or not there. Rows that cannot be used are logged and left out.

    Until it is whole, the folder has a hidden name beside its own. Work that was stopped goes on
    after the shards that are finished there. The shards are the same however often it was stopped,
    and for any number of workers; without any, this process encodes.

    Raises:
        EchoError: the folder holds something, cannot be written to, or was begun with other rows or
            settings.
        DataError: no row can be used, or the source cannot be read.
    """
    new_folder(out)
    place = out.with_name(f".{out.name}{UNFINISHED}")
    source = iter(rows)
    done = Sharded(f"{format} {max_utterances} {max_seconds}")
    with locked(place):
        for left in place.glob(f".*{UNFINISHED}"):  # of a process that was killed
            left.unlink()
        manifest = place / SHARD_MANIFEST
        kept = KeptLines(manifest)
        resume(done, kept, place, source)
        found = encode_all(source, done, format, workers)
        # Iterated, the bar ends its line before an error is shown.
        encoded = iter(progress_bar(found, unit=" utterances", shown=progress))
        written = shards(encoded, done, place, format, max_utterances, max_seconds)
        try:
            for entry, read in written:
                kept.add(entry.shard, asdict(entry) | read)
                done.entries.append(entry)
            if not done.entries:
                raise DataError(f"none of the {done.read.rows} rows can be used")
        finally:
            if not done.entries:
                manifest.unlink(missing_ok=True)
        lines = (json.dumps(asdict(entry)) + "\n" for entry in done.entries)
        replace_text(manifest, "".join(lines))
    with writing(out):
        place.rename(out)
    return done


def resume(
    done: Sharded, kept: KeptLines, place: Path, rows: Iterator[Utterance | DataError]
) -> None:
    """Takes over the shards that are finished, and passes over their rows. EchoError if these are
    others than then, or the settings are."""
    finished = [*takewhile(partial(is_whole, place), kept.entries.values())]
    kept.only(entry["shard"] for entry in finished)
    if not finished:
        return
    last = finished[-1]
    for row in islice(rows, last["read"]["rows"]):
        done.digest = digest_of(done.digest, row)
    if done.digest != last["digest"]:
        raise EchoError(
            f"{place}: holds shards that were begun with other data or settings: delete it, or "
            "choose another folder to write"
        )
    done.read, done.left_out = Count(**last["read"]), Count(**last["left_out"])
    fields = get_type_hints(ShardEntry)
    done.entries = [ShardEntry(**{key: entry[key] for key in fields}) for entry in finished]
    logger.warning("goes on after %d finished shards, with %s", len(finished), done.written)


def is_whole(place: Path, entry: Mapping[str, Any]) -> bool:
    shard = place / entry["shard"]
    return shard.is_file() and shard.stat().st_size == entry["bytes"]


def digest_of(digest: str, row: Utterance | DataError) -> str:
    """Returns the digest of rows with another one after them."""
    told: Any = str(row)
    if isinstance(row, Utterance):
        whole, part = row.audio.whole(), row.audio.as_slice()
        file = whole.identity() if isinstance(whole, AudioFile) else None
        place = (part.start, part.end) if part else None, row.audio.only_channel()
        told = file, place, row.id, row.text, row.duration, row.speaker, dict(row.extra)
    content = f"{digest} {told!r}".encode(errors="surrogatepass")
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def encode_all(
    rows: Iterator[Utterance | DataError], done: Sharded, format: Format, workers: int
) -> Iterator[tuple[Encoded, dict[str, Any]]]:
    """Yields the rows in their order, of which workers are a few ahead, and how far the source is
    read by then."""
    ahead: deque[Utterance | DataError] = deque()

    def passing() -> Iterator[Utterance | DataError]:
        for row in rows:
            ahead.append(row)
            yield row

    for found in done_with(passing(), partial(encode, format=format), workers):
        row = ahead.popleft()
        done.digest = digest_of(done.digest, row)
        if not isinstance(found, DataError):
            done.read.add(found.seconds)
            yield found, done.progress()
            continue
        seconds = row.duration if isinstance(row, Utterance) else None
        done.read.add(seconds)
        done.left_out.add(seconds)
        if done.left_out.rows <= MAX_WARNINGS:
            logger.warning("left out: %s", found)


def shards(
    encoded: Iterator[tuple[Encoded, dict[str, Any]]],
    done: Sharded,
    place: Path,
    format: Format,
    max_utterances: int,
    max_seconds: float,
) -> Iterator[tuple[ShardEntry, dict[str, Any]]]:
    """Writes shards after those that are done, and yields each with how far the source is read
    once it is whole."""
    number = count(done.written.rows)
    numbers = count(len(done.entries))
    current = next(encoded, None)
    while current:
        name = f"shard-{next(numbers):06d}{SUFFIX}"
        utterances, seconds = 0, 0.0
        with whole_file(place / name) as temporary:
            with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
                while current and utterances < max_utterances:
                    row, read = current
                    if utterances and seconds + row.seconds > max_seconds:
                        break
                    key = file_key(next(number), row.utterance.id)
                    add(tar, f"{key}.json", metadata(row))
                    add(tar, f"{key}.{format}", row.content)
                    utterances, seconds = utterances + 1, seconds + row.seconds
                    last = read
                    current = next(encoded, None)
            with temporary.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = temporary.stat().st_size
        yield ShardEntry(name, utterances, seconds, size, digest), last


def file_key(number: int, id: str) -> str:
    """Returns a name for the files of an utterance: no dot, at which a key ends, and nothing that
    leads to another folder."""
    safe = re.sub(r"[^A-Za-z0-9_-]+", "_", id)[-80:]
    return f"{number:09d}-{safe}"


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
                content = without_serial(write(mono.numpy()[:, None], "OPUS", SAMPLE_RATE, "OGG"))
        except soundfile.LibsndfileError as error:
            raise DataError(f"cannot be written as {format} ({error})") from None
    return Encoded(row, content, samples.shape[-1] / rate)


def in_format(content: bytes, format: Format) -> bool:
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
