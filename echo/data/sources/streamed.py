"""Data sets that `datasets` reads part by part: Parquet and Arrow files, and those of the hub."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from echo.data.sources.columns import Columns
from echo.data.sources.datasets import cell_audio, library_errors
from echo.data.sources.files import Recordings
from echo.data.sources.reader import ReadOptions, Row, ShardReader
from echo.support.errors import DataError, reason

if TYPE_CHECKING:
    from datasets import IterableDataset


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
        """Yields every row in order, and at last why there are no more, where the file is
        damaged."""
        part = self.dataset.shard(num_shards=self.dataset.num_shards, index=self.index)
        place = f"{self.name}[{self.index}]"
        find = partial(cell_audio, files=self.files)
        number = -1
        try:
            for number, record in enumerate(part):
                where = f"{place}[{number}]"
                yield Row(where, record, find, self.columns, id=where)
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
        paths = sorted(str(path) for path in folder.glob(Path(spec).name))
        if not paths:
            raise DataError(f"{spec}: no such file")
        import datasets

        kind = Path(spec).suffix[1:]
        with library_errors(f"{spec}: cannot be read"):
            dataset = datasets.load_dataset(kind, data_files=paths, split="train", streaming=True)
        files = Recordings((folder,), (folder.resolve(),), options.allow_outside)
        return dataset_shards(dataset, spec, options.columns, files)


def dataset_shards(
    dataset: "IterableDataset", name: str, columns: Columns, files: Recordings
) -> list[DatasetShard]:
    """Returns the parts of a streamed data set, as many as it can be read in.

    Raises:
        DataError: it cannot be read, or is empty.
    """
    import datasets

    with library_errors(f"{name}: cannot be read"):
        dataset = dataset.reshard()
        for column, feature in (dataset.features or {}).items():
            if isinstance(feature, datasets.Audio):
                dataset = dataset.cast_column(column, datasets.Audio(decode=False))
        if not dataset.num_shards:
            raise DataError(f"{name}: holds no utterances")
        return [DatasetShard(dataset, i, name, columns, files) for i in range(dataset.num_shards)]
