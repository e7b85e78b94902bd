"""What the page of a data set says of it, made from its checked rows."""

import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from echo.data.check import CheckedRow, Flaw
from echo.report.histogram import Histogram, histogram
from echo.report.sound import link

MANY = 20  # speakers, of whom a histogram says more than a list
REPEATED = 24  # texts that are shown of those that several utterances have
CHARACTERS = 150  # of a kind that are shown, the commonest first
KINDS = {"L": "Letters", "M": "Letters", "N": "Digits", "P": "Signs", "S": "Signs"}
UNSEEN = "Spaces and what is not seen"


@dataclass(frozen=True)
class Entry:
    """A row as the page shows it, without its recording."""

    id: str
    text: str | None  # None of a row that cannot be used
    seconds: float | None  # None where the recording cannot be decoded
    speaker: str | None
    link: str | None  # where its recording lies, if that can be played
    flaws: Sequence[Flaw]
    told: Mapping[str, Any]  # what `Judged.told` gives

    @property
    def rank(self) -> int:
        """0 of what a filter or an alignment rejects, 1 of what has problems, 2 of the rest."""
        if self.told.get("rejected") or self.told.get("reasons"):
            return 0
        return 1 if self.flaws else 2

    @property
    def speed(self) -> float | None:
        """Characters per second, spaces not counted; None where nothing is said or heard."""
        characters = len("".join((self.text or "").split()))
        return characters / self.seconds if characters and self.seconds else None


def entry_of(number: int, row: CheckedRow, told: Mapping[str, Any], page: Path) -> Entry:
    """The row of a number, counted from 0, for a page that will lie at a path."""
    one, decoded = row.utterance, row.decoded
    if one is None:
        return Entry(f"row {number + 1}", None, None, None, None, row.flaws, told)
    seconds, address = (decoded.seconds, link(one.audio, page)) if decoded else (None, None)
    return Entry(one.id, one.text, seconds, one.speaker, address, row.flaws, told)


def in_turn(entries: Sequence[Entry]) -> list[int]:
    """The indices of all rows, the most doubtful first: those rejected, then those with problems,
    each with the highest WER and then the lowest score first. Of what is alike in that, the first
    of every speaker comes first, then the second, so that the beginning is a sample of all."""
    turns: Counter[str | None] = Counter()
    keys = []
    for entry in entries:
        wer, score = entry.told.get("wer"), entry.told.get("score")
        doubt = entry.rank, -(wer or 0.0), math.inf if score is None else score
        keys.append((*doubt, turns[entry.speaker] if entry.rank == 2 else 0))
        turns[entry.speaker] += entry.rank == 2
    return sorted(range(len(entries)), key=keys.__getitem__)


def table(
    entries: Sequence[Entry], order: Sequence[int], embedded: Mapping[int, Any]
) -> dict[str, Any]:
    """What the script `explore.js` shows, at first in an order of the indices. What is not
    embedded, by index, is linked."""
    rows = [
        {
            "id": entry.id,
            "text": entry.text,
            "seconds": entry.seconds and round(entry.seconds, 2),
            "speed": entry.speed and round(entry.speed, 1),
            "speaker": entry.speaker,
            "flaws": entry.flaws,
            "link": None if i in embedded else entry.link,
            **entry.told,
        }
        for i, entry in enumerate(entries)
    ]
    # What a row has not is left out, as JavaScript takes both the same.
    kept = [{key: value for key, value in row.items() if value is not None} for row in rows]
    return {"rows": kept, "order": order}


@dataclass(frozen=True)
class Speaker:
    """What one speaker says in all."""

    label: str
    utterances: int
    seconds: float
    speed: float | None  # the median, in characters per second


def speakers(entries: Sequence[Entry]) -> list[Speaker]:
    """The speakers that are named, who speaks longest first."""
    heard: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.speaker is not None and entry.seconds is not None:
            heard[entry.speaker].append(entry)
    found = []
    for label, own in heard.items():
        speeds = [entry.speed for entry in own if entry.speed is not None]
        seconds = sum(entry.seconds or 0.0 for entry in own)
        found.append(
            Speaker(label, len(own), seconds, float(np.median(speeds)) if speeds else None)
        )
    return sorted(found, key=lambda speaker: -speaker.seconds)


def histograms(entries: Sequence[Entry], named: Sequence[Speaker]) -> list[Histogram]:
    """Durations, rates of speech, and how long speakers speak if they are many."""
    values = {
        ("Duration", "seconds"): [e.seconds for e in entries if e.seconds],
        ("Rate of speech", "characters/s"): [e.speed for e in entries if e.speed],
        ("Audio of a speaker", "minutes"): [s.seconds / 60 for s in named if len(named) >= MANY],
    }
    return [histogram(*about, found) for about, found in values.items() if len(set(found)) > 1]


@dataclass(frozen=True)
class Character:
    character: str
    shown: str  # itself, or its name where it cannot be seen
    name: str
    count: int


def characters(counts: Counter[str]) -> dict[str, tuple[list[Character], int]]:
    """By kind the commonest characters, and how many rarer ones there are."""
    found: dict[str, list[Character]] = {kind: [] for kind in (*KINDS.values(), UNSEEN)}
    for character, count in counts.most_common():
        category = unicodedata.category(character)
        name = unicodedata.name(character, f"U+{ord(character):04X}")
        kind = KINDS.get(category[0], UNSEEN)
        # A mark is shown on a circle, as it has no room of its own.
        seen = "\u25cc" + character if category[0] == "M" else character
        shown = name.lower() if kind == UNSEEN else seen
        found[kind].append(Character(character, shown, name, count))
    return {
        kind: (own[:CHARACTERS], max(0, len(own) - CHARACTERS))
        for kind, own in found.items()
        if own
    }


def repeats(entries: Sequence[Entry]) -> dict[str, Any]:
    """How many different texts there are, how many of these are repeated, and the commonest."""
    counts = Counter(entry.text for entry in entries if entry.text)
    repeated = [(text, count) for text, count in counts.most_common() if count > 1]
    commonest = repeated[:REPEATED]
    return {"different": len(counts), "repeated": len(repeated), "commonest": commonest}


def to_embed(entries: Sequence[Entry], order: Sequence[int], seconds: float) -> Iterator[int]:
    """The first rows, in an order, whose recordings together last at most so long."""
    for i in order:
        length = entries[i].seconds
        if length is not None and length <= seconds:
            seconds -= length
            yield i
