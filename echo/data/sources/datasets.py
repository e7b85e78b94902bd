"""Data sets that the `datasets` library reads: those it saved on disk, Parquet and Arrow files, and
those of the hub."""

import glob
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from huggingface_hub.constants import HF_HUB_CACHE

from echo.data.audio import Audio, AudioArray, AudioBytes, AudioFile, AudioReference
from echo.data.named import MANIFESTS, TABLES
from echo.data.sources.files import Recordings
from echo.data.sources.reader import Reader, ReadOptions, ShardReader
from echo.data.sources.row import Columns, Record, Row, Rows
from echo.support.errors import DataError, reason
from echo.support.hub import DATASET

if TYPE_CHECKING:  # the library takes seconds to import: only who reads such a source pays
    from datasets import Dataset, IterableDataset

RATE = "sampling_rate"  # the column beside an audio column of plain numbers


@dataclass(frozen=True)
class DatasetAudio(AudioReference):
    """One row's recording, left in the Arrow table until it is asked for."""

    dataset: "Dataset"
    row: int
    column: str
    files: Recordings  # where recordings may lie that are not in the table

    def __str__(self) -> str:
        return f"row {self.row} of {self.column!r}"

    def fetch(self) -> Audio:
        return cell_audio(self.dataset[self.row], self.column, self.files)


class SavedReader(Reader):
    """A folder that `save_to_disk` wrote, `path` or `path@split`."""

    marks = ("dataset_info.json", "dataset_dict.json")

    def takes(self, spec: str) -> bool:
        return super().takes(spec) or folder_and_split(spec)[1] is not None

    def read(self, spec: str, options: ReadOptions) -> Rows:
        from datasets import DatasetDict, load_from_disk

        path, split = folder_and_split(spec)
        with library_errors(f"{path}: cannot be loaded"):
            dataset = load_from_disk(str(path))
        if isinstance(dataset, DatasetDict):
            dataset = dataset[choose_split(str(path), split, list(dataset))]
        elif split is not None:
            raise DataError(f"{path}: has no splits, so leave out '@{split}'")
        files = Recordings((Path(),), (path.resolve(),), options.allow_outside)
        name = f"{path}@{split}" if split else str(path)
        yield from dataset_rows(dataset, name, options.columns, files)


def folder_and_split(spec: str) -> tuple[Path, str | None]:
    """Returns the parts of `path@split`; no split where all is a path, or `path` is no folder."""
    folder, _, split = spec.rpartition("@")
    if not Path(spec).exists() and folder and Path(folder).is_dir():
        return Path(folder), split
    return Path(spec), None


def choose_split(name: str, split: str | None, found: list[str]) -> str:
    if split is None and len(found) == 1:
        return found[0]
    if split not in found:
        problem = "name a split" if split is None else f"no split {split!r}"
        choices = ", ".join(f"'{name}@{each}'" for each in found)
        raise DataError(f"{name}: {problem}; there is {choices or 'none'}")
    return split


@contextmanager
def library_errors(problem: str) -> Iterator[None]:
    """Turns what `datasets`, pyarrow, fsspec and the network raise, which has no one base, into a
    DataError of the problem with the reason."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{problem} ({reason(error)})") from error


def dataset_rows(dataset: "Dataset", name: str, columns: Columns, files: Recordings) -> Rows:
    """Yields every row of a data set, with its columns of single values.

    No recording is kept. Where the table has no `duration`, each is read once, for its header.
    """
    import datasets

    try:
        keys = columns.of_table(dataset.column_names)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    dataset = dataset.with_format(None)
    if isinstance(dataset.features[keys.audio], datasets.Audio):
        dataset = dataset.cast_column(keys.audio, datasets.Audio(decode=False))
    held = [column for column in (keys.audio, RATE) if column in dataset.column_names]
    recordings = dataset.select_columns(held)
    labels = [
        column
        for column, feature in dataset.features.items()
        if column in keys or isinstance(feature, datasets.Value | datasets.ClassLabel)
    ]
    labels.remove(keys.audio)
    with library_errors(f"{name}: cannot be read"):
        for row, record in enumerate(dataset.select_columns(labels)):
            record = with_names(record, dataset.features)
            record[keys.audio] = DatasetAudio(recordings, row, keys.audio, files)
            yield Row(f"{name}[{row}]", record, columns=columns, id=str(row))


def with_names(record: Record, features: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns a row with the names of its classes, which the library gives by number."""
    import datasets

    named = dict(record)
    for column, feature in (features or {}).items():
        number = named.get(column)
        if isinstance(feature, datasets.ClassLabel) and isinstance(number, int):
            # A negative number says that there is none.
            named[column] = feature.int2str(number) if number >= 0 else None
    return named


def cell_audio(record: dict[str, Any], column: str, files: Recordings) -> Audio:
    """Returns what a cell of an audio column holds, in any of the forms that data sets have."""
    name = repr(column)  # for messages, in which the row comes before it
    cell, rate = record[column], record.get(RATE)
    if isinstance(cell, dict):  # an `Audio` column, or what `Audio` decoded to in older versions
        rate = cell.get(RATE, rate)
        cell = cell.get("bytes") or cell.get("path") or cell.get("array")
    if isinstance(cell, bytes):
        return AudioBytes(cell, name)
    if isinstance(cell, str) and cell:
        return AudioFile(files.find(cell))
    try:
        samples = np.asarray(cell if isinstance(cell, list) else [])
    except ValueError:  # channels of unequal length
        samples = np.empty(0)
    if samples.dtype.kind != "f" or not samples.size:
        raise DataError(f"{name} holds no recording: neither bytes, nor a path, nor floats")
    if not isinstance(rate, int) or rate <= 0:
        raise DataError(f"{name} holds plain samples, so {RATE!r} must give their rate")
    return AudioArray(samples, rate, name)


@dataclass(frozen=True)
class DatasetShard:
    """A file of a data set, or a row group where the files are Parquet. Its recordings come along
    with its rows: to seek for one would read the others too."""

    dataset: "IterableDataset"
    index: int
    name: str
    columns: Columns
    files: Recordings

    def __iter__(self) -> Iterator[Row | DataError]:
        """Yields every row in order, and at last where the file is damaged."""
        part = self.dataset.shard(num_shards=self.dataset.num_shards, index=self.index)
        place = f"{self.name}[{self.index}]"
        find = partial(cell_audio, files=self.files)
        number = -1
        try:
            for number, record in enumerate(part):
                where = f"{place}[{number}]"
                yield Row(where, with_names(record, part.features), find, self.columns, id=where)
        except Exception as error:  # whatever network, pyarrow and fsspec raise
            yield DataError(f"{place}: cannot be read after {number + 1} rows ({reason(error)})")
            return
        if number < 0:
            yield DataError(f"{place}: is empty")


class ParquetReader(ShardReader):
    """Parquet or Arrow files, by a name or a pattern such as `train-*.parquet`."""

    suffixes = (".parquet", ".arrow")

    def takes(self, spec: str) -> bool:
        return Path(spec).suffix.lower() in self.suffixes

    def shards(self, spec: str, options: ReadOptions) -> list[DatasetShard]:
        folder = Path(spec).parent
        # A name may hold the characters of a pattern.
        found = [Path(spec)] if Path(spec).is_file() else sorted(folder.glob(Path(spec).name))
        if not found:
            raise DataError(f"{spec}: no such file")
        import datasets

        paths = [glob.escape(str(path)) for path in found]  # the library takes patterns as well
        kind = Path(spec).suffix[1:].lower()
        with library_errors(f"{spec}: cannot be read"):
            dataset = datasets.load_dataset(kind, data_files=paths, split="train", streaming=True)
        files = Recordings((folder,), (folder.resolve(),), options.allow_outside)
        return dataset_shards(dataset, spec, options.columns, files)


def dataset_shards(
    dataset: "IterableDataset", name: str, columns: Columns, files: Recordings
) -> list[DatasetShard]:
    """Returns the parts of a streamed data set, as many as it can be read in."""
    import datasets

    with library_errors(f"{name}: cannot be read"):
        dataset = dataset.reshard()
        for column, feature in (dataset.features or {}).items():
            if isinstance(feature, datasets.Audio):
                dataset = dataset.cast_column(column, datasets.Audio(decode=False))
        if not dataset.num_shards:
            raise DataError(f"{name}: holds no utterances")
        return [DatasetShard(dataset, i, name, columns, files) for i in range(dataset.num_shards)]


class HubReader(Reader):
    """Downloads what is not in the library's cache, or keeps nothing where it streams."""

    def takes(self, spec: str) -> bool:
        """Tells whether a source is named as those of the hub, and is neither here nor named like a
        file, of which a missing one is not looked for there."""
        path = Path(spec)
        is_file = path.exists() or path.suffix.lower() in MANIFESTS + TABLES
        return bool(DATASET.fullmatch(spec)) and not is_file

    def read(self, spec: str, options: ReadOptions) -> Rows:
        if (shards := self.shards(spec, options)) is not None:
            return chain.from_iterable(shards)
        return dataset_rows(*load(spec), options.columns, hub_files(options.allow_outside))

    def shards(self, spec: str, options: ReadOptions) -> list[DatasetShard] | None:
        if not options.streaming:
            return None
        dataset, name = load(spec, streaming=True)
        return dataset_shards(dataset, name, options.columns, hub_files(options.allow_outside))


def load(spec: str, **options: Any) -> tuple[Any, str]:
    """Returns a data set of `datasets`, and its name with the split."""
    import datasets

    match = DATASET.fullmatch(spec)
    assert match
    name, config, split = match["name"], match["config"], match["split"]
    with library_errors(f"{name}: is no file or folder here, and cannot be loaded from the hub"):
        if split is None:  # asked for first, so as not to download every split for an error
            split = choose_split(name, None, datasets.get_dataset_split_names(name, config))
        return datasets.load_dataset(name, config, split=split, **options), f"{name}@{split}"


def hub_files(allow_outside: bool) -> Recordings:
    """Where recordings of the hub's data sets may lie: in the libraries' own caches."""
    import datasets

    caches = (Path(datasets.config.HF_DATASETS_CACHE), Path(HF_HUB_CACHE))
    return Recordings((Path(),), tuple(cache.resolve() for cache in caches), allow_outside)
