"""From one string to utterances: recognises the kind of source and says what is wrong with it."""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from echo.data.named import MANIFESTS, TABLES
from echo.data.sources.columns import USUAL, Columns
from echo.data.sources.datasets import read_hub, read_saved
from echo.data.sources.librispeech import TRANSCRIPTS, read_librispeech, transcript_files
from echo.data.sources.manifest import read_manifest
from echo.data.sources.shards import SHARD_MANIFEST, SUFFIX, TarShard, find_shards
from echo.data.sources.streamed import FILES, DatasetShard, open_files, open_hub
from echo.data.sources.table import read_table
from echo.data.utterance import Utterance
from echo.support.errors import DataError

log = logging.getLogger(__name__)

HUB_ID = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*/[\w.-]+)(:(?P<config>[^@]+))?(@(?P<split>.+))?")
MAX_WARNINGS = 20


def read_source(
    spec: str,
    columns: Columns = USUAL,
    on_error: Literal["raise", "skip"] = "raise",
    allow_outside: bool = False,
) -> list[Utterance]:
    """Reads the utterances of a source; recordings are not decoded yet.

    Args:
        spec: a manifest (.jsonl, .json), a table (.csv, .tsv), a folder with metadata.csv or
            metadata.jsonl, a folder in LibriSpeech's layout, a data set that `save_to_disk` wrote
            (`path` or `path@split`), one of the hub (`org/name:config@split`), tar shards (a folder
            with their manifest, `train-{000000..000123}.tar`), or Parquet or Arrow
            files (`train-*.parquet`).
        columns: where the columns do not have one of their usual names.
        on_error: "raise" stops at the first row that cannot be used; "skip" logs it and goes on.
        allow_outside: whether recordings may lie outside of the source's own folder, by an
            absolute path, by "..", or through a link.

    Raises:
        DataError: the source cannot be read, a row cannot be used, or no row is left.
    """
    utterances: list[Utterance] = []
    bad: list[DataError] = []
    ids: set[str] = set()
    for row in scan_source(spec, columns, allow_outside):
        if isinstance(row, DataError):
            if on_error == "raise":
                raise row
            bad.append(row)
            if len(bad) <= MAX_WARNINGS:
                log.warning("skipped: %s", row)
            continue
        while row.id in ids:  # the same recording twice is allowed, but results go by id
            row = replace(row, id=f"{row.id}#{len(utterances)}")
        ids.add(row.id)
        utterances.append(row)
    if not utterances:
        raise DataError(f"{spec}: none of its {len(bad)} rows can be used; the first is {bad[0]}")
    if bad:
        log.warning("%s: skipped %d of %d rows", spec, len(bad), len(bad) + len(utterances))
    return utterances


def scan_source(
    spec: str, columns: Columns = USUAL, allow_outside: bool = False, hub_stream: bool = False
) -> Iterator[Utterance | DataError]:
    """Yields every row in order: an utterance, or the reason why the row is none. Takes what
    `read_source` does. With `hub_stream`, a data set of the hub is read without being kept.

    Raises:
        DataError: the source as a whole cannot be read, or holds no row.
    """
    empty = True
    try:
        for row in open_source(spec, columns, allow_outside, hub_stream):
            empty = False
            yield row
    except OSError as error:  # a folder's, above all: of a file the readers tell themselves
        place, reason = error.filename or spec, error.strerror or error
        raise DataError(f"{place}: cannot be read ({reason})") from None
    if empty:
        raise DataError(f"{spec}: holds no utterances")


def stream_source(
    spec: str, columns: Columns = USUAL, allow_outside: bool = False, hub: bool = False
) -> Sequence[TarShard | DatasetShard] | None:
    """The parts of a source that is read part by part: tar shards, Parquet and Arrow files, and
    with `hub` data sets of the hub. None for a source of another kind.

    Raises:
        DataError: the source cannot be found or opened.
    """
    if tars := find_shards(spec, columns):
        return tars
    if Path(spec).suffix.lower() in FILES:
        return open_files(spec, columns, allow_outside)
    match = HUB_ID.fullmatch(spec)
    if hub and match and not Path(spec).exists():
        return open_hub(match["name"], match["config"], match["split"], columns, allow_outside)
    return None


def open_source(
    spec: str, columns: Columns, allow_outside: bool, hub_stream: bool
) -> Iterator[Utterance | DataError]:
    if shards := stream_source(spec, columns, allow_outside, hub_stream):
        return (row for shard in shards for row in shard.read())
    path = Path(spec)
    if path.is_dir():
        return open_folder(path, columns, allow_outside)
    suffix = path.suffix.lower()
    if path.exists():
        if suffix in MANIFESTS:
            return read_manifest(path, columns, allow_outside)
        if suffix in TABLES:
            return read_table(path, columns, allow_outside)
        known = ", ".join((*MANIFESTS, *TABLES, SUFFIX, *FILES))
        raise DataError(f"{spec}: is not a kind of file that holds a data set ({known})")
    folder, _, split = spec.rpartition("@")
    if folder and Path(folder).is_dir():
        return read_saved(Path(folder), split, columns, allow_outside)
    hub = HUB_ID.fullmatch(spec)
    if hub and suffix not in MANIFESTS + TABLES:
        return read_hub(hub["name"], hub["config"], hub["split"], columns, allow_outside)
    raise DataError(f"{spec}: no such file or folder")


def open_folder(
    folder: Path, columns: Columns, allow_outside: bool
) -> Iterator[Utterance | DataError]:
    if (folder / "dataset_info.json").is_file() or (folder / "dataset_dict.json").is_file():
        return read_saved(folder, None, columns, allow_outside)
    if (folder / "metadata.csv").is_file():
        return read_table(folder / "metadata.csv", columns, allow_outside)
    if (folder / "metadata.jsonl").is_file():
        return read_manifest(folder / "metadata.jsonl", columns, allow_outside)
    if next(transcript_files(folder), None):
        return read_librispeech(folder, allow_outside)
    tables = sorted(path.name for path in folder.iterdir() if path.suffix in MANIFESTS + TABLES)
    hint = f"; did you mean one of its files, {', '.join(tables)}?" if tables else ""
    raise DataError(
        f"{folder}: holds no data set: no metadata.csv, metadata.jsonl, {SHARD_MANIFEST}, "
        f"*{TRANSCRIPTS} or data set saved by `datasets`{hint}"
    )
