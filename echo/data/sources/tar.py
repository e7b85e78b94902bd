"""Tar shards in WebDataset's layout: `key.flac` beside `key.json` or `key.txt`, read in place.

Nothing is extracted: a shard's headers and texts are read to list its utterances, and a recording
from where it lies once it is asked for.
"""

import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby, product
from math import prod
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, get_type_hints

from echo.data.sound_file import SUFFIXES
from echo.data.sources.files import read_lines
from echo.data.sources.manifest import parse
from echo.data.sources.member import Member
from echo.data.sources.reader import ReadOptions, ShardReader
from echo.data.sources.row import Columns, Row, Rows, storable
from echo.support.errors import DataError

SUFFIX = ".tar"
SHARD_MANIFEST = "shards.jsonl"
RANGE = re.compile(r"\{([0-9]{1,18})\.\.([0-9]{1,18})\}")
MAX_SHARDS = 1_000_000
RECORDINGS = tuple(suffix.removeprefix(".") for suffix in SUFFIXES)
MAX_TEXT = 1_000_000  # bytes of a .json or .txt


@dataclass(frozen=True)
class ShardEntry:
    """A line of the manifest: what a shard must hold."""

    shard: str
    utterances: int
    seconds: float
    bytes: int
    sha256: str


@dataclass(frozen=True)
class TarShard:
    path: Path
    columns: Columns
    entry: ShardEntry | None = None

    def __iter__(self) -> Iterator[Row | DataError]:
        """Yields every row in the order of the shard, or the reason why it is none."""
        count = 0
        try:
            for row in read_tar(self.path, self.columns):
                count += 1
                yield row
        except DataError as error:  # the other shards may do
            yield error
            return
        if self.entry and count != self.entry.utterances:
            yield DataError(
                f"{self.path}: holds {count} utterances, not {self.entry.utterances} as "
                f"{SHARD_MANIFEST} says"
            )


class TarReader(ShardReader):
    """A tar file, a pattern such as `train-{000000..000123}.tar` or `*.tar`, or a folder with a
    manifest of shards."""

    suffixes = (SUFFIX,)
    marks = (SHARD_MANIFEST,)

    def takes(self, spec: str) -> bool:
        return spec.endswith(SUFFIX) or super().takes(spec)

    def shards(self, spec: str, options: ReadOptions) -> list[TarShard]:
        """Raises DataError where a shard is missing, or not as the manifest says."""
        pattern = Path(spec)
        if not spec.endswith(SUFFIX):
            return [
                TarShard(pattern / entry.shard, options.columns, entry)
                for entry in read_shard_manifest(pattern)
            ]
        if pattern.is_file():  # a name may hold the characters of a pattern
            paths = [pattern]
        elif "*" in pattern.name:
            paths = sorted(pattern.parent.glob(pattern.name)) or [pattern]
        else:
            paths = [Path(name) for name in expand(spec)]
        if missing := next((path for path in paths if not path.is_file()), None):
            raise DataError(f"{missing}: no such shard")
        return [TarShard(path, options.columns) for path in paths]


def expand(pattern: str) -> Iterator[str]:
    """Yields every name that a pattern with ranges stands for; numbers are as wide as the first."""
    texts = RANGE.split(pattern)
    ranges = [
        (range(int(first), int(last) + 1), len(first))
        for first, last in zip(texts[1::3], texts[2::3], strict=True)
    ]
    count = prod(len(numbers) for numbers, _ in ranges)
    if not 0 < count <= MAX_SHARDS:
        raise DataError(f"{pattern}: names {count} shards")
    for choice in product(*(numbers for numbers, _ in ranges)):
        filled = [f"{n:0{width}}" for n, (_, width) in zip(choice, ranges, strict=True)]
        yield "".join(a + b for a, b in zip(texts[::3], [*filled, ""], strict=True))


def read_shard_manifest(folder: Path) -> Iterator[ShardEntry]:
    """Yields what a folder's manifest says of each shard, and checks that it is there."""
    path = folder / SHARD_MANIFEST
    for number, line in enumerate(read_lines(path), 1):
        try:
            record = parse(line)
            for key, kind in get_type_hints(ShardEntry).items():
                if not isinstance(record.get(key), (int, float) if kind is float else kind):
                    raise DataError(f"{key!r} is missing or of the wrong kind")
            name = record["shard"]
            if Path(name).name != name or "\0" in name:
                raise DataError(f"'shard' must be the name of a file beside it, not {name!r}")
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from None
        shard = folder / name
        if not shard.is_file():
            raise DataError(f"{shard}: no such shard, but {SHARD_MANIFEST} names it")
        if (size := shard.stat().st_size) != record["bytes"]:
            raise DataError(
                f"{shard}: has {size} bytes, not {record['bytes']} as {SHARD_MANIFEST} says"
            )
        yield ShardEntry(**{key: record[key] for key in get_type_hints(ShardEntry)})


def read_tar(path: Path, columns: Columns) -> Rows:
    """Yields one row for each key. What is wrong with members or the shard comes last, and does not
    keep the rest from being read. A DataError is raised only where the file cannot be read."""
    problems: list[DataError] = []
    try:
        with path.open("rb") as file:
            key = None
            found = members(path, file, problems)
            for key, group in groupby(found, key=attrgetter("key")):
                files: dict[str, Member] = {}
                for member in group:
                    if files.setdefault(member.suffix, member) is not member:
                        problems.append(DataError(f"{path}: {member.name!r} is there twice"))
                yield row_of(path, file, key, files, columns)
            if key is None and not problems:
                problems.append(DataError(f"{path}: is empty"))
            yield from problems
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def members(path: Path, file: BinaryIO, problems: list[DataError]) -> Iterator[Member]:
    """Yields the plain files of a shard, passes over its folders, and adds anything else to the
    problems."""
    end = os.fstat(file.fileno()).st_size
    last = "its start"
    try:
        tar = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115, the file is the caller's
        while info := tar.next():
            # It would hold all of them, of which there may be millions.
            tar.members.clear()  # type: ignore[attr-defined]
            last = repr(info.name)
            if info.size < 0 or info.offset_data + info.size > end:
                left = end - info.offset_data
                claim = f"{info.name!r} claims {info.size} bytes, but the shard ends after {left}"
                problems.append(DataError(f"{path}: {claim}"))
                return
            if info.isdir():
                continue
            try:
                name = member_name(info)
            except DataError as error:
                problems.append(DataError(f"{path}: {info.name!r} {error}"))
            else:
                yield Member(path, name, info.offset_data, info.size)
        # A header that is none ends the list as well, and so does a file cut off between members.
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            problems.append(DataError(f"{path}: is cut off or damaged after {last}"))
    except OSError:
        raise
    except Exception as error:  # of many kinds, for all that a header can hold
        problems.append(DataError(f"{path}: is cut off or damaged after {last} ({error})"))


def member_name(info: tarfile.TarInfo) -> str:
    if not info.isreg() or info.issparse():
        raise DataError("is a link, a device or the like, and not a plain file")
    if info.name.startswith("/") or ".." in PurePosixPath(info.name).parts:
        raise DataError("has a name that points outside the shard")
    return storable(info.name.removeprefix("./"), "its name")


def row_of(
    path: Path, file: BinaryIO, key: str, files: dict[str, Member], columns: Columns
) -> Row | DataError:
    where = f"{path}:{key}"
    try:
        record: dict[str, Any] = {}
        if "json" in files:
            record |= parse(read_text(file, files["json"]))
        if "txt" in files:
            record.setdefault("text", read_text(file, files["txt"]) or None)
        found = [suffix for suffix in RECORDINGS if suffix in files]
        if len(found) != 1:
            what = " and ".join(found) or f"none of {', '.join(RECORDINGS)}"
            raise DataError(f"must have one recording, but has {what}")
    except DataError as error:
        return DataError(f"{where}: {error}")
    record["audio"] = files[found[0]]
    return Row(where, record, columns=replace(columns, audio="audio"), id=key)


def read_text(file: BinaryIO, member: Member) -> str:
    if member.size > MAX_TEXT:
        raise DataError(f"{member.name!r} has {member.size} bytes, more than a text's {MAX_TEXT}")
    file.seek(member.offset)
    return file.read(member.size).decode("utf-8-sig", "surrogateescape")
