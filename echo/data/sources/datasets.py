"""Data sets of the `datasets` library: saved on disk, or on the hub."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from huggingface_hub.constants import HF_HUB_CACHE

from echo.data.audio import Audio, AudioArray, AudioBytes, AudioFile, AudioReference
from echo.data.sources.columns import Columns
from echo.data.sources.files import Recordings
from echo.data.sources.manifest import ManifestReader
from echo.data.sources.reader import Reader
from echo.data.sources.row import Row
from echo.data.sources.table import TableReader
from echo.support.errors import DataError

if TYPE_CHECKING:  # the library takes seconds to import: only who reads such a source pays
    from datasets import Dataset

HUB_ID = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*/[\w.-]+)(:(?P<config>[^@]+))?(@(?P<split>.+))?")
FILES = (*ManifestReader.suffixes, *TableReader.suffixes)  # a missing one is not looked for there
RATE = "sampling_rate"  # the column beside an audio column of plain numbers


@dataclass(frozen=True)
class DatasetAudio(AudioReference):
    """One row's recording, left in the Arrow table until it is asked for."""

    dataset: "Dataset"
    row: int
    column: str
    files: Recordings  # where recordings may lie that are not in the table

    def fetch(self) -> Audio:
        return cell_audio(self.dataset[self.row], self.column, self.files)


class SavedReader(Reader):
    """A folder that `save_to_disk` wrote, `path` or `path@split`."""

    marks = ("dataset_info.json", "dataset_dict.json")

    def takes(self, spec: str) -> bool:
        return super().takes(spec) or folder_and_split(spec)[1] is not None

    def read(self, spec: str, columns: Columns, allow_outside: bool) -> Iterator[Row | DataError]:
        from datasets import DatasetDict, load_from_disk

        path, split = folder_and_split(spec)
        try:
            dataset = load_from_disk(str(path))
        except Exception as error:  # whatever the library, pyarrow and fsspec raise
            raise DataError(f"{path}: cannot be loaded ({one_line(error)})") from error
        if isinstance(dataset, DatasetDict):
            dataset = dataset[choose_split(str(path), split, list(dataset))]
        elif split is not None:
            raise DataError(f"{path}: has no splits, so leave out '@{split}'")
        files = Recordings((Path(),), (path.resolve(),), allow_outside)
        yield from dataset_rows(dataset, f"{path}@{split}" if split else str(path), columns, files)


def folder_and_split(spec: str) -> tuple[Path, str | None]:
    """The parts of `path@split`; no split where the whole is a path, or `path` is no folder."""
    folder, _, split = spec.rpartition("@")
    if not Path(spec).exists() and folder and Path(folder).is_dir():
        return Path(folder), split
    return Path(spec), None


class HubReader(Reader):
    """A data set of the hub, downloaded where it is not in the library's cache."""

    def takes(self, spec: str) -> bool:
        return hub_id(spec) is not None

    def read(self, spec: str, columns: Columns, allow_outside: bool) -> Iterator[Row | DataError]:
        import datasets

        found = hub_id(spec)
        assert found
        name, config, split = found
        try:
            if split is None:  # asked for first, so as not to download every split for an error
                split = choose_split(name, None, datasets.get_dataset_split_names(name, config))
            dataset = datasets.load_dataset(name, config, split=split)
        except DataError:
            raise
        except Exception as error:  # network, access, configs, splits: the library has no one base
            raise DataError(
                f"{name}: is no file or folder here, and cannot be loaded from the hub "
                f"({one_line(error)})"
            ) from error
        yield from dataset_rows(dataset, f"{name}@{split}", columns, hub_files(allow_outside))


class HubId(NamedTuple):
    name: str
    config: str | None
    split: str | None


def hub_id(spec: str) -> HubId | None:
    """The parts of `org/name:config@split`; None for what is a path or named as a file."""
    match = HUB_ID.fullmatch(spec)
    if not match or Path(spec).exists() or Path(spec).suffix.lower() in FILES:
        return None
    return HubId(match["name"], match["config"], match["split"])


def hub_files(allow_outside: bool) -> Recordings:
    """Where recordings of the hub's data sets may lie: in the libraries' own caches."""
    import datasets

    caches = (Path(datasets.config.HF_DATASETS_CACHE), Path(HF_HUB_CACHE))
    return Recordings((Path(),), tuple(cache.resolve() for cache in caches), allow_outside)


def choose_split(name: str, split: str | None, found: list[str]) -> str:
    if split is None and len(found) == 1:
        return found[0]
    if split not in found:
        problem = "name a split" if split is None else f"no split {split!r}"
        choices = ", ".join(f"'{name}@{each}'" for each in found)
        raise DataError(f"{name}: {problem}; there is {choices or 'none'}")
    return split


def one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def dataset_rows(
    dataset: "Dataset", name: str, columns: Columns, files: Recordings
) -> Iterator[Row | DataError]:
    """One row a row, with its columns of single values.

    No recording is kept. Where the table has no `duration`, each is read once, for its header.

    Raises:
        DataError: the data set lacks a column, or cannot be read.
    """
    import datasets

    try:
        keys = columns.among(dataset.column_names)
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
        if column in keys or isinstance(feature, datasets.Value)
    ]
    labels.remove(keys.audio)
    for row, record in enumerate(records(dataset.select_columns(labels), name)):
        record[keys.audio] = DatasetAudio(recordings, row, keys.audio, files)
        yield Row(f"{name}[{row}]", record, columns=columns, id=str(row))


def records(dataset: "Dataset", name: str) -> Iterator[dict[str, Any]]:
    try:
        yield from dataset
    except Exception as error:  # whatever pyarrow raises for a damaged table
        raise DataError(f"{name}: cannot be read ({one_line(error)})") from error


def cell_audio(record: dict[str, Any], column: str, files: Recordings) -> Audio:
    """What one cell of an audio column holds, in any of the forms that data sets come in."""
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
    if samples.dtype.kind != "f" or samples.ndim > 2 or not samples.size:
        raise DataError(f"{name} holds no recording: neither bytes, nor a path, nor floats")
    if not isinstance(rate, int) or rate <= 0:
        raise DataError(f"{name} holds plain samples, so {RATE!r} must give their rate")
    return AudioArray(samples, rate, name)
