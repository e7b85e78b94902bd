"""Rows of an earlier split, which stay on their sides, and new rows that must follow them."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from echo.data.prepare.groups import components
from echo.data.prepare.rows import usable_rows
from echo.data.sources import ReadOptions
from echo.data.utterance import Utterance
from echo.support.errors import DataError

SIDES = ("train", "dev", "test")  # train is what the others leave
FREE = -1  # the side of a row that has none yet
LEFT_OUT = len(SIDES)  # the side of a new row that belongs to two


def side_file(folder: Path, side: str) -> Path:
    return folder / f"{side}.jsonl"


@dataclass
class Earlier:
    """On which side the rows of an earlier split are."""

    by_digest: dict[int, int] = field(default_factory=dict)
    by_id: dict[str, int] = field(default_factory=dict)  # FREE for ids on several sides

    def read(self, folder: Path, options: ReadOptions) -> Iterator[tuple[Utterance, int]]:
        """Yields its rows and their sides, and keeps them. DataError if it is no split."""
        outside = replace(options, allow_outside=True)  # it lies beside its recordings
        for side, name in enumerate(SIDES):
            path = side_file(folder, name)
            if not path.exists():
                if name == "train":
                    raise DataError(f"{folder}: holds no earlier split: no {path.name}")
                continue
            for found in usable_rows(str(path), outside):
                if found:
                    row = found[1]
                    self.by_digest[digest_of(row)] = side
                    if self.by_id.setdefault(row.id, side) != side:
                        self.by_id[row.id] = FREE
                    yield row, side

    def side_of(self, row: Utterance, digest: int) -> int:
        """Returns the side where a row was, even if all but its id has changed since."""
        return self.by_digest.get(digest, self.by_id.get(row.id, FREE))


def digest_of(row: Utterance) -> int:
    """Returns a number of 64 bits that depends on what a row says alone, not on its place."""
    part = row.audio.as_slice()
    start = round(1000 * part.start) if part else 0
    told = row.id, row.text, row.speaker, round(1000 * row.duration), start
    channel = row.audio.only_channel()
    content = repr(told if channel is None else (*told, channel)).encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def follow(sides: np.ndarray, columns: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Puts free rows on the side of those with which they share something, directly or by way of
    other free rows; `sides` is changed. A row that would be on two is left out: as few as can be of
    those that share something with the other side than most of their group.

    Returns:
        for each row, whether it has a side from before, and shares something with another.
    """
    touched = np.zeros(len(sides), dtype=np.int64)  # a bit for each side
    fixed = sides >= 0
    for codes in columns:
        bits = np.zeros(codes.max() + 2, dtype=np.int64)  # the last one for -1
        np.bitwise_or.at(bits, codes[fixed], 1 << sides[fixed])
        bits[-1] = 0
        touched |= bits[codes]
    several = touched & (touched - 1) != 0
    sides[~fixed & several] = LEFT_OUT
    free = sides == FREE
    labels = components(len(sides), [np.where(free, codes, -1) for codes in columns])
    held = np.zeros((len(SIDES), labels.max() + 1), dtype=np.int64)
    for side in range(len(SIDES)):
        touching = free & (touched == 1 << side)
        np.add.at(held[side], labels[touching], weights[touching])
    best = held.argmax(0)[labels]
    drawn = free & (held.max(0) > 0)[labels]
    sides[drawn] = best[drawn]
    sides[drawn & (touched != 0) & (touched != 1 << best)] = LEFT_OUT
    return fixed & several
