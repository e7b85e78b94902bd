"""Which tar files a source is made of, and the manifest that lies beside them."""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import get_type_hints

from echo.data.sources.columns import Columns
from echo.data.sources.files import read_lines
from echo.data.sources.manifest import parse
from echo.data.sources.reader import ReadOptions, Row, ShardReader
from echo.data.sources.tar import read_tar
from echo.support.errors import DataError

SUFFIX = ".tar"
SHARD_MANIFEST = "shards.jsonl"
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
MAX_SHARDS = 1_000_000


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
    """A part of a source that is read as one."""

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
            entries = read_shard_manifest(pattern)
            return [checked(pattern, entry, options.columns) for entry in entries]
        found = sorted(pattern.parent.glob(pattern.name)) if "*" in pattern.name else []
        paths = found or [Path(name) for name in expand(spec)]
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
    count = 1
    for numbers, _ in ranges:
        count *= len(numbers)
    if not 0 < count <= MAX_SHARDS:
        raise DataError(f"{pattern}: names {count} shards")
    for choice in product(*(numbers for numbers, _ in ranges)):
        filled = [f"{n:0{width}}" for n, (_, width) in zip(choice, ranges, strict=True)]
        yield "".join(a + b for a, b in zip(texts[::3], [*filled, ""], strict=True))


def read_shard_manifest(folder: Path) -> Iterator[ShardEntry]:
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
        yield ShardEntry(**{key: record[key] for key in get_type_hints(ShardEntry)})


def checked(folder: Path, entry: ShardEntry, columns: Columns) -> TarShard:
    path = folder / entry.shard
    if not path.is_file():
        raise DataError(f"{path}: no such shard, but {SHARD_MANIFEST} names it")
    if (size := path.stat().st_size) != entry.bytes:
        raise DataError(f"{path}: has {size} bytes, not {entry.bytes} as {SHARD_MANIFEST} says")
    return TarShard(path, columns, entry)


def manifest_line(entry: ShardEntry) -> str:
    return json.dumps(asdict(entry)) + "\n"
