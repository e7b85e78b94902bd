"""The rows of a source with what was read of each, and as lines of a manifest elsewhere."""

import json
import logging
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

from echo.data.audio import Audio, AudioFile
from echo.data.sources import ReadOptions, Row, scan_rows
from echo.data.sources.member import MEMBER, Member
from echo.data.sources.read import MAX_WARNINGS
from echo.data.sources.row import AUDIO, checked
from echo.data.utterance import Utterance
from echo.support.errors import DataError
from echo.support.progress import progress_bar

logger = logging.getLogger(__name__)

ENCODER = json.JSONEncoder(ensure_ascii=False, default=str)  # `json.dumps` makes one a line


def open_manifest(path: Path) -> TextIO:
    """Opens a new manifest, in which half surrogate pairs become escapes that JSON knows."""
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")


def usable_rows(spec: str, options: ReadOptions) -> Iterator[tuple[Row, Utterance] | None]:
    """Yields every row, and None for one that cannot be used, which is logged. DataError if none
    can be, or if the source as a whole cannot be read."""
    bad, some, first = 0, False, None
    for row in progress_bar(scan_rows(spec, options), desc="reading", unit=" rows", leave=False):
        found = row if isinstance(row, DataError) else checked(row)
        if not isinstance(found, DataError):
            some = True
            yield row, found
            continue
        bad, first = bad + 1, first or found
        if bad <= MAX_WARNINGS:
            logger.warning("left out: %s", found)
        yield None
    if bad > MAX_WARNINGS:
        logger.warning("%s: left out %d rows in all", spec, bad)
    if not some:
        raise DataError(f"{spec}: none of its {bad} rows can be used; the first is {first}")


def manifest_line(row: Row, utterance: Utterance, folder: Path) -> str:
    """Returns a row as a line of a manifest; see `manifest_record`."""
    record = manifest_record(row, utterance, folder)
    return ENCODER.encode(record) + "\n"


def manifest_record(row: Row, utterance: Utterance, folder: Path) -> dict[str, Any]:
    """Returns a row of a manifest in a folder (resolved), with all its columns. One that is new
    says what else depended on the place or would have to be read again: id and duration. DataError
    if the recording is neither a file nor in a tar shard, which alone a manifest can name."""
    whole = utterance.audio.whole()
    path = whole.path if isinstance(whole, AudioFile | Member) else None
    if path is None:
        raise DataError(
            f"{row.where}: its recording is not a file of its own, which a manifest could name: "
            "write the data set as files first, with echo-asr data convert"
        )
    record = {key: value for key, value in row.record.items() if not isinstance(value, bytes)}
    column = row.columns.among(row.record).audio
    if isinstance(row.record[column], Member):
        record[AUDIO[0]] = str(record.pop(column).path)
        column = AUDIO[0]
    if isinstance(whole, Member):
        record[MEMBER] = whole.record()
    is_absolute = str(record[column]).startswith(os.sep)
    record[column] = str(path) if is_absolute else path_from(folder, path)
    record["id"] = utterance.id
    if record.get("duration") in (None, ""):
        record["duration"] = utterance.duration
    if "recording" in utterance.extra:  # by which parts are named that have no id
        record["recording"] = utterance.extra["recording"]
    return record


def file_path(audio: Audio) -> Path | None:
    """Returns the file that a recording, or a part or channel of one is in; None if it is no
    file."""
    whole = audio.whole()
    return whole.path if isinstance(whole, AudioFile) else None


def path_from(start: Path, path: Path) -> str:
    """Returns the path of a file from a folder (resolved)."""
    # Plain strings: hashing and joining paths takes longer than reading a row.
    place, separator, name = str(path).rpartition(os.sep)
    return f"{way(start, place + separator)}{os.sep}{name}"


@lru_cache(maxsize=4096)  # most recordings lie in few folders
def way(start: Path, folder: str) -> str:
    return os.path.relpath(real_folder(folder), start)


@lru_cache(maxsize=4096)
def real_folder(folder: str) -> str:
    return str(Path(folder).resolve())
