"""JSON lines: NeMo's manifests, and the metadata.jsonl of Hugging Face's audio folders."""

import json
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from echo.data.named import MANIFESTS
from echo.data.sources.files import Recordings, check_encoding, read_lines
from echo.data.sources.reader import Reader, ReadOptions
from echo.data.sources.row import Record, Row, Rows
from echo.support.errors import DataError, tried


class ManifestReader(Reader):
    suffixes = MANIFESTS
    marks = ("metadata.jsonl", "manifest.jsonl")

    def read(self, spec: str, options: ReadOptions) -> Rows:
        """Yields one row a line, but for blank ones; paths are relative to the manifest."""
        path = self.file(spec)
        recordings = Recordings((path.parent,), (path.parent.resolve(),), options.allow_outside)
        for where, record in objects(path):
            if isinstance(record, DataError):
                yield record
            else:
                yield Row(where, record, recordings.of, options.columns)


def objects(path: Path) -> Iterator[tuple[str, Record | DataError]]:
    """Yields the place and the JSON object of each line but blank ones, or why there is none."""
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            where = f"{path}:{number}"
            yield where, tried(where, parse, line)


def parse(line: str) -> Record:
    check_encoding(line)
    try:
        record = DECODER.decode(line.rstrip())
    except json.JSONDecodeError as error:
        raise DataError(f"is not JSON ({error.msg} at column {error.colno})") from None
    except (ValueError, RecursionError) as error:  # numbers or brackets beyond Python's limits
        raise DataError(f"is not JSON ({error})") from None
    if not isinstance(record, dict):
        raise DataError(f"is not a JSON object: {reprlib.repr(record)}")
    return record


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a JSON object, of which Python would keep the last of two values without a word."""
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [key for key, _ in pairs]
        again = next(key for i, key in enumerate(names) if key in names[:i])
        raise DataError(f"has {reprlib.repr(again)} twice")
    return record


DECODER = json.JSONDecoder(object_pairs_hook=unique)  # made once: `json.loads` makes one a line
