"""Writes any source in the layout of another tool.

Recordings stay where they are if the format names files, and parts of them. Those that no file
holds alone (in tar shards, Parquet files and arrays) are written beside the rows, as they are
encoded, or else as FLAC.
"""

import hashlib
import io
import logging
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import count
from pathlib import Path

from echo.data.audio import AudioFile, check_channel
from echo.data.prepare.count import Count
from echo.data.prepare.formats.format import Format, Placed, Recording
from echo.data.prepare.formats.registry import find_format
from echo.data.prepare.shard import encode, file_key, origin
from echo.data.sound_file import opened
from echo.data.sources.read import MAX_WARNINGS, scan_rows, with_new_id
from echo.data.sources.reader import AS_USUAL, ReadOptions
from echo.data.sources.row import Row, is_seconds, nested_columns
from echo.data.utterance import Utterance, about_equal
from echo.support.errors import DataError
from echo.support.files import new_folder, whole_folder
from echo.support.progress import progress_bar

logger = logging.getLogger(__name__)

BEYOND = 0.02  # seconds after a recording's end that all tools allow, as durations are rounded
SUFFIXES = {"OPUS": ".opus", "MPEG_LAYER_III": ".mp3"}  # by libsndfile's subtype


@dataclass
class Conversion:
    """What became of the rows of a source."""

    notes: dict[str, str]  # what is not as it was, by column
    read: Count = field(default_factory=Count)
    written: Count = field(default_factory=Count)
    left_out: Count = field(default_factory=Count)
    named: int = 0  # rows that name recordings where they were


def convert_data(
    spec: str, out: Path, to: str, options: ReadOptions = AS_USUAL, progress: bool = False
) -> Conversion:
    """Writes a folder with all rows of a source that can be used, in one of FORMATS; it is whole,
    or not there. What is wrong with the others is logged, whatever the options say.

    Raises:
        ConfigError: there is no such format.
        EchoError: the folder holds something, or cannot be written to.
        DataError: the source cannot be read, or none of its rows can be written.
    """
    format = find_format(to)()
    new_folder(out)
    done = Conversion(format.notes)
    ids: set[str] = set()
    first: DataError | None = None
    with whole_folder(out) as folder:
        place = Place(format, out)
        rows = scan_rows(spec, options)
        for row in iter(progress_bar(rows, desc="converting", unit=" rows", shown=progress)):
            seconds = told_seconds(row)
            try:
                if isinstance(row, DataError):
                    raise row
                utterance = with_new_id(row.utterance(), ids)
                seconds = utterance.duration
                placed, content = place.of(utterance)
                format.add(placed)
            except DataError as error:
                problem = error if error is row else DataError(f"{row.where}: {error}")
                first = first or problem
                done.read.add(seconds)
                done.left_out.add(seconds)
                if done.left_out.rows <= MAX_WARNINGS:
                    logger.warning("left out: %s", problem)
                continue
            for column in nested_columns(row):
                format.notes.setdefault(column, "its values are lists or objects")
            if content is None:
                done.named += format.files == "named"
            else:
                path = folder / format.audio_folder / Path(placed.recording.path).name
                path.parent.mkdir(exist_ok=True)
                if not path.exists():  # another row may be a part of the same
                    path.write_bytes(content)
            done.read.add(placed.duration)
            done.written.add(placed.duration)
        if not done.written.rows:
            raise DataError(
                f"{spec}: none of its {done.read.rows} rows can be written; the first is {first}"
            )
        format.write(folder)
    return done


def told_seconds(row: Row | DataError) -> float | None:
    """Returns how long a row says that it is, if it does."""
    told = None if isinstance(row, DataError) else row.record.get("duration")
    return float(told) if is_seconds(told) else None


class Place:
    """Decides where the recordings of a format's rows lie."""

    def __init__(self, format: Format, out: Path) -> None:
        self.format = format
        self.folder = Path(format.audio_folder)
        if format.absolute:
            self.folder = out.absolute() / self.folder
        self.numbers = count()
        self.names: dict[bytes, str] = {}  # of recordings that have several rows, by content

    def of(self, utterance: Utterance) -> tuple[Placed, bytes | None]:
        """Returns an utterance with its place, and the content of the recording if it is to be
        written there. DataError where the recording cannot be read, or lacks the row's part."""
        audio = utterance.audio.fetch()
        utterance = replace(utterance, audio=audio)
        part, channel, whole = audio.as_slice(), audio.only_channel(), audio.whole()
        if self.format.cuts and whole is not audio:
            cut_from = origin(audio)
            for column in cut_from:
                why = f"rows are cut out of their recordings; {column} tells what it was"
                self.format.notes[column.removeprefix("recording_")] = why
            extra = {**cut_from, **utterance.extra}
            if isinstance(whole, AudioFile):
                extra.setdefault("recording", whole.path.name)
            cut = encode(utterance, "flac").content
            recording = described(io.BytesIO(cut), self.name(utterance.id, cut))
            return Placed(replace(utterance, extra=extra), recording, utterance.duration), cut
        if isinstance(whole, AudioFile) and self.format.files != "copied":
            content: bytes | None = None
            recording = described_file(whole.path, str(whole.path.absolute()))
        else:
            content = whole.encoded() or encode(replace(utterance, audio=whole), "flac").content
            digest = hashlib.sha256(content).digest() if whole is not audio else None
            name = self.names.get(digest) if digest else None
            recording = described(io.BytesIO(content), name or self.name(utterance.id, content))
            if digest:
                self.names[digest] = recording.path
        if part:
            part.check(recording.seconds)
        if channel is not None:
            check_channel(channel, recording.channels, recording.path)
        start = part.start if part else None
        seconds = self.seconds(utterance, recording)
        return Placed(utterance, recording, seconds, start, channel), content

    def seconds(self, utterance: Utterance, recording: Recording) -> float:
        """Returns how long an utterance is: what its row tells, if its recording is that long."""
        part = utterance.audio.as_slice()
        told, seconds = utterance.duration, recording.seconds - (part.start if part else 0.0)
        if told <= seconds + BEYOND and (part or about_equal(told, seconds)):
            return round(told, 9)  # without what adding floats leaves
        self.format.notes["duration"] = (
            "where a row tells another than its recording has, the recording's is written"
        )
        return round(seconds, 9)

    def name(self, id: str, content: bytes) -> str:
        with opened(io.BytesIO(content), id) as file:
            suffix = SUFFIXES.get(file.subtype) or f".{file.format.lower()}"
        return str(self.folder / f"{file_key(next(self.numbers), id)}{suffix}")


def described(source: Path | io.BytesIO, path: str) -> Recording:
    """Returns what the header of a recording says, which the data set names by this path."""
    with opened(source, path) as file:
        return Recording(path, file.samplerate, file.frames, file.channels)


# A long recording has many rows.
described_file = lru_cache(maxsize=1024)(described)
