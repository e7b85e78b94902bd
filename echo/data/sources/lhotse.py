"""lhotse's manifests: cuts, or recordings with supervisions, as JSON lines, compressed or not.

A supervision is what is said in a part of a recording. Nothing else of lhotse is applied: a cut
that was mixed, padded or transformed is refused, because its recording sounds different.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from echo.data.audio import SLICE_TOLERANCE
from echo.data.sources.files import Recordings, read_lines
from echo.data.sources.manifest import objects, parse
from echo.data.sources.reader import Reader, ReadOptions
from echo.data.sources.row import CHANNEL, END, NUMBERS, STARTS, Record, Row, Rows, is_seconds
from echo.support.errors import DataError, tried

CUTS, RECORDINGS, SUPERVISIONS = "cuts", "recordings", "supervisions"
SUFFIX, COMPRESSED = ".jsonl", ".jsonl.gz"
PLACES = (*NUMBERS, *STARTS, END, CHANNEL)  # columns that say where a supervision lies
ROUNDING = 0.001  # seconds by which times may miss the ends of a recording, as lhotse rounds them
PLAIN = ("MonoCut", "MultiCut", None)  # the types of cuts that are parts of one recording


class LhotseReader(Reader):
    """A file of cuts, of supervisions or of recordings, or a folder that holds `cuts.jsonl.gz`, or
    `recordings.jsonl.gz` and `supervisions.jsonl.gz`. Of the last two, one finds the other by its
    name: `dev_supervisions.jsonl` has `dev_recordings.jsonl` beside it."""

    suffixes = (COMPRESSED,)
    marks = tuple(
        f"{kind}{suffix}" for kind in (CUTS, SUPERVISIONS) for suffix in (COMPRESSED, SUFFIX)
    )

    def takes(self, spec: str) -> bool:
        path = Path(spec)
        if path.is_dir():
            return super().takes(spec)
        name = path.name.lower()
        return path.is_file() and (
            name.endswith(COMPRESSED) or (name.endswith(SUFFIX) and begins_as_lhotse(path))
        )

    def read(self, spec: str, options: ReadOptions) -> Rows:
        path = self.file(spec)
        if RECORDINGS in path.name and CUTS not in path.name:
            path = beside(path, RECORDINGS, SUPERVISIONS)
        problems: list[DataError] = []
        recordings: dict[str, Record] | None = None
        # Paths are relative to where lhotse is run.
        files = Recordings((path.parent, Path()), (path.parent.resolve(),), options.allow_outside)

        def rows_of(where: str, record: Record) -> list[dict[str, Any] | DataError]:
            nonlocal recordings
            if "recording_id" not in record:
                return cut_rows(where, record)
            if recordings is None:
                recordings = read_recordings(beside(path, SUPERVISIONS, RECORDINGS), problems)
            name = record["recording_id"]
            if not isinstance(name, str) or name not in recordings:
                raise DataError(f"there is no recording {name!r}")
            return [spoken(recordings[name], record, 0.0)]

        for where, record in readable(path):
            found = (
                record if isinstance(record, DataError) else tried(where, rows_of, where, record)
            )
            for row in [found] if isinstance(found, DataError) else found:
                if isinstance(row, DataError):
                    yield row
                else:
                    yield Row(where, row, files.of, options.columns)
        yield from problems


def begins_as_lhotse(path: Path) -> bool:
    """Tells whether the first line of a file is lhotse's, and not a manifest's of another kind."""
    with suppress(DataError):
        for line in islice(read_lines(path), 1):
            record = parse(line)
            kind = record.get("type")
            return (
                (isinstance(kind, str) and kind.endswith("Cut") and "id" in record)
                or isinstance(record.get("supervisions"), list)
                or ("recording_id" in record and "start" in record)
                or isinstance(record.get("sources"), list)
            )
    return False


def readable(path: Path) -> Iterator[tuple[str, Record | DataError]]:
    """Yields the JSON object of each line, and last where the file is damaged."""
    where = ""
    try:
        for where, record in objects(path):
            yield where, record
    except DataError as error:
        if not where:
            raise
        yield str(path), error


def beside(path: Path, kind: str, other: str) -> Path:
    """Returns the file of the other kind that belongs to this one, compressed or not."""
    stem = path.name.removesuffix(".gz").replace(kind, other)
    for name in (stem + ".gz", stem):
        if name != path.name and (path.parent / name).is_file():
            return path.parent / name
    raise DataError(f"{path}: needs {other} beside it, in {path.parent / stem} or .gz")


def read_recordings(path: Path, problems: list[DataError]) -> dict[str, Record]:
    """Returns recordings by their ids, and adds what is wrong with others to the problems."""
    found: dict[str, Record] = {}
    for where, record in readable(path):
        if isinstance(record, DataError):
            problems.append(record)
        elif not isinstance(name := record.get("id"), str):
            problems.append(DataError(f"{where}: 'id' must be a string"))
        elif found.setdefault(name, record) is not record:
            problems.append(DataError(f"{where}: the recording {name!r} is there twice"))
    return found


def cut_rows(where: str, cut: Record) -> list[dict[str, Any] | DataError]:
    """Returns a row for each supervision of a cut, or why it is none."""
    kind = cut.get("type")
    if kind not in PLAIN:
        raise DataError(f"is a {kind}: only cuts of one recording (MonoCut, MultiCut) are read")
    recording = cut.get("recording")
    if not isinstance(recording, dict):
        raise DataError("is no cut of a recording: 'recording' is missing")
    supervisions = cut.get("supervisions")
    if not isinstance(supervisions, list) or not supervisions:
        raise DataError("the cut has no supervisions, so nothing says what is spoken")
    start = number(cut, "start")
    return [tried(where, spoken, recording, supervision, start) for supervision in supervisions]


def spoken(recording: Record, supervision: Record, cut_start: float) -> dict[str, Any]:
    """Returns the row of a supervision, whose times count from a place in its recording."""
    if not isinstance(supervision, dict):
        raise DataError("a supervision must be an object")
    start = cut_start + number(supervision, "start")
    end = start + number(supervision, "duration")
    if -ROUNDING < start < 0:
        start = 0.0
    if start < 0:
        raise DataError(f"begins {-start:.3f} s before its recording")
    source = source_of(recording)
    custom = supervision.get("custom")  # what users add
    added = custom if isinstance(custom, dict) else {}
    row = {
        **{key: value for key, value in added.items() if key not in PLACES},
        "id": supervision.get("id"),
        "audio": source["source"],
        CHANNEL: channel_of(source, supervision.get("channel")),
        "text": supervision.get("text"),
        "recording": recording.get("id"),
    }
    for name in ("speaker", "language", "gender"):
        if supervision.get(name) is not None:
            row[name] = supervision[name]
    whole = recording.get("duration")
    if start == 0 and is_seconds(whole) and -ROUNDING < end - whole < SLICE_TOLERANCE:
        return {**row, "duration": end}
    return {**row, "start": start, "end": end}


def source_of(recording: Record) -> Record:
    if recording.get("transforms"):
        names = json.dumps(recording["transforms"])[:80]
        raise DataError(f"its recording is transformed ({names}), which lhotse alone can do")
    sources = recording.get("sources")
    if not isinstance(sources, list) or len(sources) != 1 or not isinstance(sources[0], dict):
        raise DataError("'sources' of its recording must be one file")
    (source,) = sources
    if source.get("type") != "file" or not isinstance(source.get("source"), str):
        raise DataError(
            f"its recording is of the type {source.get('type')!r}, which is never run or loaded: "
            "only files are read"
        )
    return source


def channel_of(source: Record, channel: Any) -> int | None:
    """Returns which of a file's channels a supervision is about; None for all of them."""
    channels = source.get("channels")
    heard = channel if isinstance(channel, list) else [channel]
    if not isinstance(channels, list) or channel is None or len(heard) >= len(channels):
        return None
    if len(heard) != 1 or heard[0] not in channels:
        raise DataError(f"is channel {channel} of {channels}: only one, or all of them are read")
    return channels.index(heard[0])


def number(record: Record, key: str) -> float:
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e9:
        raise DataError(f"{key!r} must be a number of seconds, not {str(value)[:40]!r}")
    return float(value)
