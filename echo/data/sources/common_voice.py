"""Common Voice's layout: train.tsv, dev.tsv and others beside a folder of clips."""

from collections.abc import Iterator
from pathlib import Path

from echo.data.sources.datasets import choose_split, folder_and_split
from echo.data.sources.table import TableReader

CLIPS = "clips"
# Tables in the folder that say something else than who says what in which clip.
OTHERS = (
    "clip_durations",
    "reported",
    "unvalidated_sentences",
    "validated_sentences",
)


class CommonVoiceReader(TableReader):
    """A folder, with `@` and the name of a table where there are several: `cv/de@train`."""

    suffixes = ()
    marks = (f"{CLIPS}/ beside a .tsv",)

    def takes(self, spec: str) -> bool:
        folder, _ = folder_and_split(spec)
        return (folder / CLIPS).is_dir() and any(tables(folder))

    def file(self, spec: str) -> Path:
        folder, split = folder_and_split(spec)
        return folder / f"{choose_split(str(folder), split, list(tables(folder)))}.tsv"


def tables(folder: Path) -> Iterator[str]:
    """Yields the names of a folder's tables, without their suffix."""
    names = sorted(path.stem for path in folder.glob("*.tsv") if path.is_file())
    return (name for name in names if name not in OTHERS)
