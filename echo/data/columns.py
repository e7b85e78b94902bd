"""Utterances in Arrow columns: a million take a few hundred megabytes, which processes share, and
each becomes an object when it is used."""

import pickle
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import Any, TypeVar, cast, overload

import numpy as np
import pyarrow as pa

from echo.data.audio import Audio, AudioChannel, AudioFile, AudioSlice
from echo.data.utterance import Utterance

T = TypeVar("T")
# Utterances that are put into columns, or made of them, at once: few, or the garbage collector
# would look at them again and again.
BLOCK = 512
# Names of files may hold half surrogate pairs, which Arrow's strings cannot.
FIELDS: dict[str, pa.DataType] = {
    "id": pa.large_binary(),
    "text": pa.large_string(),
    "duration": pa.float64(),
    "speaker": pa.large_string(),
    "where": pa.large_binary(),
    "extra": pa.large_binary(),  # pickled by this process; None where it is empty
    "language": pa.large_string(),
    "task": pa.large_string(),
    "set": pa.large_string(),
}
# A recording is a file, or the number of another kind of audio; or a channel or part of these.
AUDIO: dict[str, pa.DataType] = {
    "path": pa.large_binary(),
    "other": pa.int64(),
    "channel": pa.int64(),
    "start": pa.float64(),
    "end": pa.float64(),
}
SCHEMA = pa.schema(FIELDS | AUDIO)


@dataclass(eq=False, repr=False)
class Utterances(Sequence[Utterance]):
    """Utterances in columns, in any order. Use `of` to make them."""

    table: pa.Table  # with the columns of `SCHEMA`
    others: Sequence[Audio]  # the recordings that are no files
    order: np.ndarray  # the rows of the table that there are
    change: Callable[[Audio], Audio] | None = None  # what is made of a recording when it is used

    @classmethod
    def of(cls, utterances: Iterable[Utterance]) -> "Utterances":
        if isinstance(utterances, Utterances):
            return utterances
        others: list[Audio] = []
        rows, batches = iter(utterances), []
        while block := list(islice(rows, BLOCK)):
            batches.append(record_batch(block, others))
        # One piece, in which any row is found at once.
        table = pa.Table.from_batches(batches, SCHEMA).combine_chunks()
        batches.clear()
        pa.default_memory_pool().release_unused()
        return cls(table, others, np.arange(len(table)))

    def __len__(self) -> int:
        return len(self.order)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> "Utterances": ...
    def __getitem__(self, index: int | slice) -> "Utterance | Utterances":
        if isinstance(index, slice):
            return self.take(range(len(self))[index])
        return next(self.made(self.order[[index]]))

    def __iter__(self) -> Iterator[Utterance]:
        for start in range(0, len(self), BLOCK):
            yield from self.made(self.order[start : start + BLOCK])

    def take(self, numbers: Sequence[int] | np.ndarray) -> "Utterances":
        """Returns some of them, in this order. Nothing is copied."""
        return replace(self, order=self.order[np.asarray(numbers, dtype=np.int64)])

    def with_audio(self, change: Callable[[Audio], Audio]) -> "Utterances":
        """Returns them with recordings that are changed when they are used."""
        return replace(self, change=change)

    def cells(self, *names: str) -> Iterator[tuple[Any, ...]]:
        """Yields what each has in some columns of `SCHEMA`."""
        for start in range(0, len(self), BLOCK):
            yield from self.cells_of(self.order[start : start + BLOCK], *names)

    def cells_of(self, rows: np.ndarray, *names: str) -> Iterator[tuple[Any, ...]]:
        block = self.table.select(names).take(pa.array(rows))
        columns = [block[name].to_pylist() for name in names]
        for column, name in zip(columns, names, strict=True):
            if name == "extra":
                column[:] = [{} if cell is None else pickle.loads(cell) for cell in column]
            elif SCHEMA.field(name).type == pa.large_binary():
                column[:] = [None if cell is None else unpacked(cell) for cell in column]
        return zip(*columns, strict=True)

    def made(self, rows: np.ndarray) -> Iterator[Utterance]:
        values = zip(self.cells_of(rows, *FIELDS), self.cells_of(rows, *AUDIO), strict=True)
        for told, (path, other, channel, start, end) in values:
            audio = self.others[other] if path is None else AudioFile(Path(path))
            if channel is not None:
                audio = AudioChannel(audio, channel)
            if start is not None:
                audio = AudioSlice(audio, start, end)
            if self.change:
                audio = self.change(audio)
            yield Utterance(audio=audio, **dict(zip(FIELDS, told, strict=True)))


def record_batch(block: Sequence[Utterance], others: list[Audio]) -> pa.RecordBatch:
    """Puts utterances into columns, and those of their recordings that are no files into a list."""
    columns: dict[str, list[Any]] = {
        name: [getattr(each, name) for each in block] for name in FIELDS
    }
    columns["extra"] = [pickle.dumps(each) if each else None for each in columns["extra"]]
    columns |= {name: [] for name in AUDIO}
    for each in block:
        part = each.audio if type(each.audio) is AudioSlice else None
        whole = part.audio if part else each.audio
        channel = whole if type(whole) is AudioChannel else None
        whole = channel.audio if channel else whole
        path = str(whole.path) if type(whole) is AudioFile else None
        columns["path"].append(path)
        columns["other"].append(len(others) if path is None else None)
        columns["channel"].append(channel.number if channel else None)
        columns["start"].append(part.start if part else None)
        columns["end"].append(part.end if part else None)
        if path is None:
            others.append(whole)
    for name in ("id", "where", "path"):
        columns[name] = [None if cell is None else packed(cell) for cell in columns[name]]
    return pa.RecordBatch.from_pydict(columns, SCHEMA)


def packed(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def unpacked(content: bytes) -> str:
    return content.decode(errors="surrogatepass")


class Joined(Sequence[Utterance]):
    """Sequences of utterances, one after another."""

    def __init__(self, parts: Sequence[Sequence[Utterance]]) -> None:
        self.parts = parts
        self.ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Utterance]: ...
    def __getitem__(self, index: int | slice) -> Utterance | Sequence[Utterance]:
        number = range(len(self))[index]
        if isinstance(number, range):
            return [self[i] for i in number]
        part = bisect(self.ends, number)
        return self.parts[part][number - self.ends[part]]  # from the part's end

    def __iter__(self) -> Iterator[Utterance]:
        return chain.from_iterable(self.parts)


def cells(utterances: Iterable[Utterance], *names: str) -> Iterator[tuple[Any, ...]]:
    """Yields what each utterance has in some fields; "start" is that of a slice, and
    "channel" the only one that is heard, or None."""
    if isinstance(utterances, Utterances):
        return utterances.cells(*names)
    if isinstance(utterances, Joined):
        return chain.from_iterable(cells(part, *names) for part in utterances.parts)
    return (tuple(cell(each, name) for name in names) for each in utterances)


def cell(utterance: Utterance, name: str) -> Any:
    if name == "start":
        part = utterance.audio.as_slice()
        return part.start if part else None
    if name == "channel":
        return utterance.audio.only_channel()
    return getattr(utterance, name)


def taken(parts: Sequence[T], numbers: Sequence[int]) -> Sequence[T]:
    """Returns some of a sequence, in this order; of utterances in columns without making any."""
    if isinstance(parts, Utterances):
        return cast(Sequence[T], parts.take(numbers))
    return [parts[i] for i in numbers]
