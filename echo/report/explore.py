"""Writes the page of a data set."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from echo.data.check import MAX_SECONDS, Report, check_rows
from echo.data.sources import scan_source
from echo.data.sources.reader import AS_USUAL, ReadOptions
from echo.data.utterance import Utterance
from echo.report.dataset import (
    Entry,
    characters,
    entry_of,
    histograms,
    in_turn,
    repeats,
    speakers,
    table,
    to_embed,
)
from echo.report.page import render
from echo.report.sound import EMBEDDED_BYTES, embedded
from echo.support.files import replace_text
from echo.support.provenance import provenance

LEAST_RATE = 3_000  # bytes of the page that a second of a recording takes, at least


def write_exploration(
    spec: str,
    page: Path,
    options: ReadOptions = AS_USUAL,
    max_seconds: float | None = MAX_SECONDS,
) -> Report:
    """Writes a page that shows a data set, in which recordings up to `max_seconds` are no problem.
    Returns what was found, as `check_source` does."""
    report = Report(spec)
    entries: list[Entry] = []
    for row in check_rows(spec, options, max_seconds):
        report.add(row)
        entries.append(entry_of(len(entries), row, page))
    order = in_turn(entries)
    # The recordings are read again, because all of them might not fit in memory.
    wanted = [*to_embed(entries, order, EMBEDDED_BYTES / LEAST_RATE)]
    chosen = {*wanted}
    found = {
        i: row.audio
        for i, row in enumerate(scan_source(spec, options))
        if i in chosen and isinstance(row, Utterance)
    }
    sounds = embedded((i, found[i]) for i in wanted if i in found)
    sections = {**described(report, entries), "table": table(entries, order, sounds)}
    replace_text(page, render("explore.html", {**sections, "sounds": sounds}))
    return report


def described(report: Report, entries: list[Entry]) -> dict[str, Any]:
    """What the template `explore.html` shows besides the rows."""
    named = speakers(entries)
    return {
        "report": report,
        "durations": extent(report.durations),
        "speeds": extent([entry.speed for entry in entries if entry.speed]),
        "lengths": extent([speaker.seconds / 60 for speaker in named]),
        "histograms": [asdict(each) for each in histograms(entries, named)],
        "speakers": named,
        "characters": characters(report.characters),
        "repeats": repeats(entries),
        "made": provenance(),
    }


def extent(values: Sequence[float]) -> list[float]:
    """The least value, the median and the largest; empty if there is none."""
    return np.quantile(values, (0, 0.5, 1)).tolist() if values else []
