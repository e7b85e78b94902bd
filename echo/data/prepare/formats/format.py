"""What every format that data sets are written in says of itself."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from echo.data.sources.row import AUDIO, SPEAKER, TEXT, storable
from echo.data.utterance import Utterance
from echo.support.errors import DataError

Plain = str | int | float | bool
# Names under which a reader would look for something else than a further column.
TAKEN = (*AUDIO, *TEXT, *SPEAKER)
BREAKS = re.compile(r"\s*[\t\r\n]\s*")
SPACES = re.compile(r"\s+")


@dataclass(frozen=True)
class Recording:
    """A file of audio, as its header describes it."""

    path: str  # as the data set names it
    rate: int  # Hz
    samples: int
    channels: int

    @property
    def seconds(self) -> float:
        return self.samples / self.rate


@dataclass(frozen=True)
class Placed:
    """An utterance, and where its recording lies."""

    utterance: Utterance
    recording: Recording
    duration: float  # seconds, as the row tells it
    start: float | None = None  # seconds, of a part of the recording; None if it is all of it
    channel: int | None = None  # the only one that it is; None if it is all of them


class Format(ABC):
    """Collects rows and writes them as one data set."""

    audio_folder = "audio"  # for recordings that no file holds alone
    # Whether it names files of recordings where they are, has copies of them in its own folder, or
    # holds them itself.
    files: Literal["named", "copied", "held"] = "named"
    cuts = False  # whether a row's recording is what the row is about, and nothing more
    absolute = False  # whether other programs take its paths as relative to where they are started

    def __init__(self) -> None:
        self.notes: dict[str, str] = {}  # what it cannot hold, by column
        self.rows: list[dict[str, Any]] = []  # what was taken, as it will be written

    @abstractmethod
    def add(self, row: Placed) -> None:
        """Takes a row. Raises DataError where the format cannot hold it."""

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Writes all that was taken into a folder, in which written recordings lie already."""

    def further(self, row: Utterance, own: Mapping[str, Any]) -> dict[str, Plain]:
        """Returns the row's further columns, with language and task, that the format can hold
        beside its own."""
        told = {**row.extra, "language": row.language, "task": row.task}
        found: dict[str, Plain] = {}
        for key, value in told.items():
            if value is None or (value == "" and key in own):
                continue
            if key in own or key in TAKEN:
                self.notes.setdefault(key, "the format has a column of that name or meaning")
            elif is_plain(value):
                found[key] = value
            else:
                self.notes.setdefault(key, "its values are neither text nor finite numbers")
        return found

    def cannot_hold(self, row: Utterance, kept: tuple[str, ...] = ()) -> None:
        """Notes the row's further columns but those that are kept."""
        for key, value in {**row.extra, "language": row.language, "task": row.task}.items():
            if value is not None and key not in kept:
                self.notes.setdefault(key, "the format has no further columns")

    def one_line(self, value: str, column: str) -> str:
        """Returns a value without the line breaks and tabs that the format cannot hold."""
        line = BREAKS.sub(" ", value)
        if line != value:
            self.notes.setdefault(column, "the format has no line breaks or tabs: now spaces")
        return line


def is_plain(value: object) -> bool:
    """Tells whether a value can be written as text or JSON, and read again."""
    if isinstance(value, str):
        try:
            storable(value, None)
        except DataError:
            return False
        return True
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def decimal(seconds: float) -> str:
    """Returns seconds to a billionth, without zeros at the end."""
    return f"{seconds:.9f}".rstrip("0").rstrip(".")


class RecordingIds:
    """Gives recordings ids without spaces: what the rows call them, or else their files' names."""

    def __init__(self) -> None:
        self.by_path: dict[str, str] = {}
        self.taken: set[str] = set()

    def of(self, row: Placed) -> str:
        path = row.recording.path
        if path not in self.by_path:
            told = str(row.utterance.extra.get("recording") or path)
            name = base = SPACES.sub("_", Path(told).stem if "/" in told else told)
            number = 1
            while name in self.taken:
                number += 1
                name = f"{base}-{number}"
            self.taken.add(name)
            self.by_path[path] = name
        return self.by_path[path]
