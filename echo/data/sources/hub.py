"""Data sets of the hub, downloaded or streamed: `org/name:config@split`."""

from itertools import chain
from pathlib import Path
from typing import Any

from huggingface_hub.constants import HF_HUB_CACHE

from echo.data.named import MANIFESTS, TABLES
from echo.data.sources.datasets import choose_split, dataset_rows, library_errors
from echo.data.sources.files import Recordings
from echo.data.sources.reader import Reader, ReadOptions, Rows
from echo.data.sources.streamed import DatasetShard, dataset_shards
from echo.support.hub import DATASET

FILES = MANIFESTS + TABLES  # a missing one is not looked for here


class HubReader(Reader):
    """Downloads what is not in the library's cache, or keeps nothing where it streams."""

    def takes(self, spec: str) -> bool:
        return is_hub_id(spec)

    def read(self, spec: str, options: ReadOptions) -> Rows:
        if (shards := self.shards(spec, options)) is not None:
            return chain.from_iterable(shards)
        return dataset_rows(*load(spec), options.columns, hub_files(options.allow_outside))

    def shards(self, spec: str, options: ReadOptions) -> list[DatasetShard] | None:
        if not options.streaming:
            return None
        dataset, name = load(spec, streaming=True)
        return dataset_shards(dataset, name, options.columns, hub_files(options.allow_outside))


def is_hub_id(spec: str) -> bool:
    """Tells whether a source is named as those of the hub, and is neither here nor named like a
    file."""
    path = Path(spec)
    return bool(DATASET.fullmatch(spec)) and not path.exists() and path.suffix.lower() not in FILES


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
