"""The rows of a data set, with what a filter or an alignment says of them."""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from echo.data.audio import Audio
from echo.data.check import Flaw
from echo.data.prepare.convert import told_seconds
from echo.data.prepare.corrections import place_of
from echo.data.prepare.count import Count
from echo.data.prepare.filter.filter import KEPT, RECORD, REJECTED
from echo.data.sources import ReadOptions, Row, scan_rows
from echo.data.sources.row import checked
from echo.data.utterance import Utterance
from echo.report.timelines import Recordings, part_of_file
from echo.support.errors import DataError
from echo.support.files import read_object

SEED = 0  # of the sample of a large data set
FIGURES = ("score", "wer")  # columns by which a row is doubtful: by a low score, or a high WER


@dataclass(frozen=True)
class Judged:
    """A row, and why it is rejected if it is."""

    row: Row | DataError
    utterance: Utterance | DataError
    is_rejected: bool

    @property
    def record(self) -> Mapping[str, Any]:
        return {} if isinstance(self.row, DataError) else self.row.record

    @property
    def reasons(self) -> list[Flaw]:
        """The rule and a sentence of each reason that the row gives."""
        given = self.record.get("reasons")
        named = [each for each in given if isinstance(each, dict)] if type(given) is list else []
        return [Flaw(str(each.get("rule")), str(each.get("what", ""))) for each in named]

    @property
    def seconds(self) -> float | None:
        """How long it is, if that is known without decoding."""
        one = self.utterance
        return one.duration if isinstance(one, Utterance) else told_seconds(self.row)

    def told(self, recordings: Mapping[Audio, int]) -> dict[str, Any]:
        """What the page shows of it besides the utterance: figures, reasons, the place that a
        correction names, and the number of the long recording that it is a part of."""
        row, one, heard = self.row, self.utterance, self.record.get("heard")
        found: dict[str, Any] = {
            **{column: self.figure(column) for column in FIGURES},
            "heard": heard if isinstance(heard, str) else None,
            "reasons": self.reasons or None,
            "rejected": self.is_rejected or None,
        }
        if isinstance(row, Row) and isinstance(one, Utterance):
            part = part_of_file(one.audio)
            found |= {"place": place_of(row, one), "recording": part and recordings.get(part.audio)}
        elif self.reasons:  # a rejected row may lack a recording, but be named and have a text
            words = {key: self.record.get(key) for key in ("id", "text")}
            found |= {key: word for key, word in words.items() if isinstance(word, str)}
        return found

    def figure(self, column: str) -> float | None:
        value = self.record.get(column)
        # Neither NaN nor infinity, which a page could not read.
        return float(value) if isinstance(value, int | float) and abs(value) < 1e9 else None


def parts(spec: str) -> list[tuple[str, bool]]:
    """Returns the sources that a data set consists of, and whether their rows are rejected: two if
    it is a folder that a command has written what it rejected into."""
    folder = Path(spec)
    if not (folder / REJECTED).is_file():
        return [(spec, folder.name == REJECTED)]
    kept = folder / KEPT
    found = [(str(kept) if kept.exists() else spec, False), (str(folder / REJECTED), True)]
    # A file without rows is no source, but here it says that all or none are kept.
    return [(part, bad) for part, bad in found if Path(part).stat().st_size] or found[:1]


def origin(spec: str) -> str:
    """Returns the data set that a filter's folder was made of; of others what is kept of them."""
    record = Path(spec) / RECORD
    return str(read_object(record).get("data")) if record.is_file() else parts(spec)[0][0]


def judged_rows(spec: str, options: ReadOptions) -> Iterator[Judged]:
    """Yields every row in order, what is kept first.

    Raises:
        DataError: the source as a whole cannot be read, or holds no row.
    """
    for part, is_rejected in parts(spec):
        for row in scan_rows(part, options):
            yield Judged(row, row if isinstance(row, DataError) else checked(row), is_rejected)


@dataclass
class Survey:
    """What all rows say, without decoding them."""

    read: Count = field(default_factory=Count)
    rejected: Count = field(default_factory=Count)
    by_rule: dict[str, Count] = field(default_factory=lambda: defaultdict(Count))
    alone: dict[str, Count] = field(default_factory=lambda: defaultdict(Count))  # by no other rule
    recordings: Recordings = field(default_factory=Recordings)

    def add(self, one: Judged) -> None:
        seconds = one.seconds
        self.read.add(seconds)
        if one.is_rejected:
            self.rejected.add(seconds)
        rules = [*dict.fromkeys(reason.kind for reason in one.reasons)]
        for rule in rules:
            self.by_rule[rule].add(seconds)
        for rule in rules if len(rules) == 1 else ():
            self.alone[rule].add(seconds)
        if isinstance(one.utterance, Utterance):
            self.recordings.add(one.utterance, one.is_rejected)

    def rules(self) -> list[tuple[str, Count, Count]]:
        """What each rule rejects, and what it alone does; who rejects most comes first."""
        found = [(rule, count, self.alone[rule]) for rule, count in self.by_rule.items()]
        return sorted(found, key=lambda each: (-each[1].seconds, -each[1].rows))

    def sample(self, most: int) -> list[int]:
        """Returns the numbers of all rows, or of a sample that is always the same, in order."""
        rows = self.read.rows
        return sorted(random.Random(SEED).sample(range(rows), min(rows, most)))
