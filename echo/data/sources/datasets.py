"""Data sets of the `datasets` library: saved on disk, or on the hub."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from huggingface_hub.constants import HF_HUB_CACHE

from echo.data.audio import AudioArray, AudioBytes, AudioFile, header_duration
from echo.data.sources.columns import Columns, duration_of, extra_of, label_of, text_of
from echo.data.sources.files import Recordings
from echo.data.utterance import Utterance
from echo.support.errors import DataError, reason

if TYPE_CHECKING:  # the library takes seconds to import: only who reads such a source pays
    from datasets import Dataset

RATE = "sampling_rate"  # the column beside an audio column of plain numbers


@dataclass(frozen=True)
class DatasetAudio:
    """One row's recording, left in the Arrow table until it is asked for."""

    dataset: "Dataset"
    row: int
    column: str
    files: Recordings  # where recordings may lie that are not in the table

    def fetch(self) -> AudioFile | AudioBytes | AudioArray:
        return cell_audio(self.dataset[self.row], self.column, self.files)

    def load(self) -> torch.Tensor:
        return self.fetch().load()


def read_saved(
    path: Path, split: str | None, columns: Columns, allow_outside: bool = False
) -> Iterator[Utterance | DataError]:
    """A folder that `save_to_disk` wrote."""
    from datasets import DatasetDict, load_from_disk

    try:
        dataset = load_from_disk(str(path))
    except Exception as error:  # whatever the library, pyarrow and fsspec raise for a damaged one
        raise DataError(f"{path}: cannot be loaded ({reason(error)})") from error
    if isinstance(dataset, DatasetDict):
        dataset = dataset[choose_split(str(path), split, list(dataset))]
    elif split is not None:
        raise DataError(f"{path}: has no splits, so leave out '@{split}'")
    files = Recordings((Path(),), (path.resolve(),), allow_outside)
    yield from read_dataset(dataset, f"{path}@{split}" if split else str(path), columns, files)


def read_hub(
    name: str, config: str | None, split: str | None, columns: Columns, allow_outside: bool = False
) -> Iterator[Utterance | DataError]:
    """A data set of the hub, downloaded where it is not in the library's cache."""
    import datasets

    try:
        if split is None:  # asked for first, so as not to download every split for an error
            split = choose_split(name, None, datasets.get_dataset_split_names(name, config))
        dataset = datasets.load_dataset(name, config, split=split)
    except DataError:
        raise
    except Exception as error:  # network, access, configs, splits: the library has no one base
        raise DataError(
            f"{name}: is no file or folder here, and cannot be loaded from the hub "
            f"({reason(error)})"
        ) from error
    yield from read_dataset(dataset, f"{name}@{split}", columns, hub_files(allow_outside))


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


def read_dataset(
    dataset: "Dataset", name: str, columns: Columns, files: Recordings
) -> Iterator[Utterance | DataError]:
    """One utterance a row; further columns of single values go to `extra`.

    No recording is kept. Where the table has no `duration`, each is read once, for its header.
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
    for row, record in enumerate(rows(dataset.select_columns(labels), name)):
        where = f"{name}[{row}]"
        try:
            text = text_of(record, keys.text)
            duration = duration_of(record)
            audio = DatasetAudio(recordings, row, keys.audio, files)
            yield Utterance(
                id=label_of(record, "id") or str(row),
                audio=audio,
                text=text,
                duration=duration or seconds(audio.fetch()),
                speaker=label_of(record, keys.speaker),
                where=where,
                extra=extra_of(record, keys),
            )
        except DataError as error:
            yield DataError(f"{where}: {error}")


def rows(dataset: "Dataset", name: str) -> Iterator[dict[str, Any]]:
    try:
        yield from dataset
    except Exception as error:  # whatever pyarrow raises for a damaged table
        raise DataError(f"{name}: cannot be read ({reason(error)})") from error


def cell_audio(
    record: dict[str, Any], column: str, files: Recordings
) -> AudioFile | AudioBytes | AudioArray:
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


def seconds(audio: AudioFile | AudioBytes | AudioArray) -> float:
    match audio:
        case AudioFile(path):
            return header_duration(path)
        case AudioBytes(content, name):
            return header_duration(io.BytesIO(content), name)
        case AudioArray(samples, rate):
            return samples.shape[-1] / rate
