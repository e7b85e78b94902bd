"""Data sets of the `datasets` library that are read part by part: of the hub without downloading
them, or of Parquet and Arrow files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from echo.data.sources.columns import Columns, duration_of, extra_of, label_of, text_of
from echo.data.sources.datasets import RATE, cell_audio, choose_split, hub_files, seconds
from echo.data.sources.files import Recordings
from echo.data.utterance import Utterance
from echo.support.errors import DataError, reason

if TYPE_CHECKING:
    from datasets import IterableDataset

FILES = (".parquet", ".arrow")


@dataclass(frozen=True)
class DatasetShard:
    """A file of a data set, or a row group where the files are Parquet. Its recordings come along
    with its rows: to seek for one would read the others too."""

    dataset: "IterableDataset"
    index: int
    name: str
    columns: Columns
    files: Recordings

    def read(self) -> Iterator[Utterance | DataError]:
        """Every row in order: an utterance, or the reason why it is none."""
        part = self.dataset.shard(num_shards=self.dataset.num_shards, index=self.index)
        place = f"{self.name}[{self.index}]"
        number = -1
        try:
            for number, record in enumerate(part):
                yield self.utterance(record, f"{place}[{number}]")
        except Exception as error:  # whatever network, pyarrow and fsspec raise
            yield DataError(f"{place}: cannot be read after {number + 1} rows ({reason(error)})")
            return
        if number < 0:
            yield DataError(f"{place}: is empty")

    def utterance(self, record: dict[str, object], where: str) -> Utterance | DataError:
        try:
            keys = self.columns.among(record)
            audio = cell_audio(record, keys.audio, self.files)
            values = {
                key: value
                for key, value in record.items()
                if key not in (keys.audio, RATE) and not isinstance(value, (dict, list, bytes))
            }
            return Utterance(
                id=label_of(record, "id") or where,
                audio=audio,
                text=text_of(record, keys.text),
                duration=duration_of(record) or seconds(audio),
                speaker=label_of(record, keys.speaker),
                where=where,
                extra=extra_of(values, keys),
            )
        except DataError as error:
            return DataError(f"{where}: {error}")


def open_files(spec: str, columns: Columns, allow_outside: bool = False) -> list[DatasetShard]:
    """The shards of Parquet or Arrow files, by a name or a pattern such as `train-*.parquet`."""
    paths = sorted(str(path) for path in Path(spec).parent.glob(Path(spec).name))
    if not paths:
        raise DataError(f"{spec}: no such file")
    import datasets

    try:
        dataset = datasets.load_dataset(
            Path(spec).suffix[1:], data_files=paths, split="train", streaming=True
        )
        folder = Path(spec).parent
        files = Recordings((folder,), (folder.resolve(),), allow_outside)
        return shards(dataset, spec, columns, files)
    except DataError:
        raise
    except Exception as error:  # whatever the library and pyarrow raise for a damaged one
        raise DataError(f"{spec}: cannot be read ({reason(error)})") from error


def open_hub(
    name: str, config: str | None, split: str | None, columns: Columns, allow_outside: bool = False
) -> list[DatasetShard]:
    """The shards of a data set of the hub."""
    import datasets

    try:
        if split is None:
            split = choose_split(name, None, datasets.get_dataset_split_names(name, config))
        dataset = datasets.load_dataset(name, config, split=split, streaming=True)
        return shards(dataset, f"{name}@{split}", columns, hub_files(allow_outside))
    except DataError:
        raise
    except Exception as error:  # network, access, configs, splits: the library has no one base
        raise DataError(f"{name}: cannot be streamed from the hub ({reason(error)})") from error


def shards(
    dataset: "IterableDataset", name: str, columns: Columns, files: Recordings
) -> list[DatasetShard]:
    import datasets

    dataset = dataset.reshard()
    for column, feature in (dataset.features or {}).items():
        if isinstance(feature, datasets.Audio):
            dataset = dataset.cast_column(column, datasets.Audio(decode=False))
    if not dataset.num_shards:
        raise DataError(f"{name}: holds no utterances")
    return [DatasetShard(dataset, i, name, columns, files) for i in range(dataset.num_shards)]
