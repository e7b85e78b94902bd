"""From one string to utterances: finds the reader of a source, or says why there is none."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from echo.data.columns import Utterances
from echo.data.sources.common_voice import CommonVoiceReader
from echo.data.sources.corpora import CorpusReader
from echo.data.sources.datasets import HubReader, ParquetReader, SavedReader
from echo.data.sources.kaldi import KaldiReader
from echo.data.sources.lhotse import LhotseReader
from echo.data.sources.librispeech import LibriSpeechReader
from echo.data.sources.manifest import ManifestReader
from echo.data.sources.reader import AS_USUAL, Reader, ReadOptions
from echo.data.sources.recordings import RecordingsReader
from echo.data.sources.row import Row, Rows, utterances
from echo.data.sources.table import TableReader
from echo.data.sources.tar import TarReader
from echo.data.utterance import Utterance
from echo.support.errors import DataError
from echo.support.settings import check

log = logging.getLogger(__name__)

MAX_WARNINGS = 20
# The first that takes a source reads it.
READERS: list[Reader] = [
    CorpusReader(),
    TarReader(),
    ParquetReader(),
    TableReader(),
    CommonVoiceReader(),  # before what takes any folder@split
    SavedReader(),
    LhotseReader(),
    ManifestReader(),
    KaldiReader(),
    LibriSpeechReader(),
    HubReader(),
]


def read_source(spec: str, options: ReadOptions = AS_USUAL) -> Sequence[Utterance]:
    """Reads the utterances of a source; recordings are not decoded yet.

    Args:
        spec: a manifest (.jsonl, .json), a table (.csv, .tsv), a folder with metadata.csv,
            metadata.jsonl or manifest.jsonl, a folder in LibriSpeech's, Kaldi's, lhotse's or Common
            Voice's layout, lhotse's cuts or supervisions, a data set that `save_to_disk` wrote
            (`path` or `path@split`), one of the hub (`org/name:config@split`), tar shards (a folder
            with their manifest, `train-{000000..000123}.tar`), Parquet or Arrow
            files (`train-*.parquet`), or what runs on a built-in corpus are measured on
            (`fsdd:FOLDER`, `espeak:`, `fsdd:FOLDER@dev`).
        options: its columns, whether a bad row stops, and where recordings may lie.

    Raises:
        DataError: the source cannot be read, a row cannot be used, or no row is left.
    """
    bad: list[DataError] = []
    ids: set[str] = set()

    def good_rows() -> Iterator[Utterance]:
        for row in scan_source(spec, options):
            if not isinstance(row, DataError):
                yield with_new_id(row, ids)
                continue
            if options.on_error == "raise":
                raise row
            bad.append(row)
            if len(bad) <= MAX_WARNINGS:
                log.warning("skipped: %s", row)

    utterances = Utterances.of(good_rows())
    if not utterances:
        raise DataError(f"{spec}: none of its {len(bad)} rows can be used; the first is {bad[0]}")
    if bad:
        log.warning("%s: skipped %d of %d rows", spec, len(bad), len(bad) + len(utterances))
    return utterances


def with_new_id(row: Utterance, ids: set[str]) -> Utterance:
    """Returns an utterance under an id that is not taken yet, and takes it: the same recording
    twice is allowed, but results go by id."""
    while row.id in ids:
        row = replace(row, id=f"{row.id}#{len(ids)}")
    ids.add(row.id)
    return row


def scan_source(spec: str, options: ReadOptions = AS_USUAL) -> Iterator[Utterance | DataError]:
    """Yields every row in order: an utterance, or the reason why the row is none. Takes what
    `read_source` does. DataError if the source as a whole cannot be read, or holds no row."""
    with system_errors(spec):
        yield from utterances(scan_rows(spec, options))


def scan_rows(spec: str, options: ReadOptions = AS_USUAL) -> Iterator[Row | DataError]:
    """Yields every row in order as its source has it. Arguments and errors as for
    `scan_source`."""
    check(options, "options")
    empty = True
    with system_errors(spec):
        for row in find_reader(spec, options).read(spec, options):
            empty = False
            yield row
    if empty:
        raise DataError(f"{spec}: holds no utterances")


def scan_shards(spec: str, options: ReadOptions, rows: int) -> Iterator[Rows]:
    """Yields a source in parts that are always the same: the shards of one that is read shard by
    shard, and else so many rows at a time. Arguments and errors as for `scan_source`."""
    with system_errors(spec):
        if (shards := find_reader(spec, options).shards(spec, options)) is not None:
            yield from shards
            return
    found = scan_rows(spec, options)
    while part := list(islice(found, rows)):
        yield part


@dataclass(frozen=True)
class UtteranceShard:
    """A part of a source, whose rows are checked each time that it is iterated."""

    rows: Rows

    def __iter__(self) -> Iterator[Utterance | DataError]:
        return utterances(self.rows)


def stream_source(spec: str, options: ReadOptions = AS_USUAL) -> list[UtteranceShard] | None:
    """Returns the parts of a source that is read part by part: tar shards, Parquet and Arrow files,
    and with `options.streaming` data sets of the hub. None for a source of another kind. DataError
    if it cannot be found or opened."""
    with system_errors(spec):
        shards = find_reader(spec, options).shards(spec, options)
    return None if shards is None else [UtteranceShard(rows) for rows in shards]


def register_source(reader: Reader) -> None:
    """Adds a kind of source. It is asked before the built-in ones whether it takes a source."""
    READERS.insert(0, reader)


def find_reader(spec: str, options: ReadOptions = AS_USUAL) -> Reader:
    """Returns the first reader that takes a source, or raises DataError with a hint."""
    readers = READERS if options.columns.needs_text else [*READERS, RecordingsReader()]
    if found := next((reader for reader in readers if reader.takes(spec)), None):
        return found
    suffixes = [suffix for reader in READERS for suffix in reader.suffixes]
    path = Path(spec)
    if path.is_dir():
        marks = ", ".join(mark for reader in READERS for mark in reader.marks)
        files = sorted(each.name for each in path.iterdir() if each.suffix in suffixes)
        hint = f"; did you mean one of its files, {', '.join(files)}?" if files else ""
        raise DataError(f"{spec}: holds no data set: no {marks}{hint}")
    if path.exists():
        known = ", ".join(suffixes)
        raise DataError(f"{spec}: is not a kind of file that holds a data set ({known})")
    raise DataError(f"{spec}: no such file or folder")


@contextmanager
def system_errors(spec: str) -> Iterator[None]:
    """Turns an OSError into a DataError: mostly of a folder, for readers handle those of files."""
    try:
        yield
    except OSError as error:
        place, reason = error.filename or spec, error.strerror or error
        raise DataError(f"{place}: cannot be read ({reason})") from None
