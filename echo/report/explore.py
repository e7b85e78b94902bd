"""Writes the page of a data set."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np

from echo.data.check import DAMAGED, MAX_SECONDS, Report, check_rows
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
from echo.report.judged import Judged, Survey, judged_rows, origin
from echo.report.page import render
from echo.report.sound import EMBEDDED_BYTES, embedded
from echo.report.timelines import SHOWN
from echo.support.files import replace_text
from echo.support.provenance import provenance

LEAST_RATE = 3_000  # bytes of the page that a second of a recording takes, at least
MOST_ROWS = 20_000  # on a page: of a larger data set it shows a sample


@dataclass(frozen=True)
class Exploration:
    """What a page shows: what all rows say, and what was found in those on the page."""

    survey: Survey
    report: Report

    @property
    def damaged(self) -> list[str]:
        """A sentence for each row on the page that cannot be used."""
        return [what for kind in DAMAGED for what in self.report.problems.get(kind, ())]

    def to_text(self) -> str:
        survey, report = self.survey, self.report
        shown = f"{report.rows} rows, {report.hours:.2f} hours"
        rejected = f", rejected {survey.rejected}" if survey.rejected.rows else ""
        problems = f"{report.findings or 'no'} problem{'s' * (report.findings != 1)}"
        if survey.read.rows > report.rows:
            return f"read {survey.read}{rejected}; in a sample of {shown}: {problems}"
        return f"{shown}{rejected}, {problems}"


def write_exploration(
    spec: str,
    page: Path,
    options: ReadOptions = AS_USUAL,
    max_seconds: float | None = MAX_SECONDS,
) -> Exploration:
    """Writes a page that shows a data set, in which recordings up to `max_seconds` are no problem.
    A filter's folder shows what it kept and what it rejected. Of more than 20,000 rows, a sample is
    decoded and shown."""
    survey = Survey()
    for each in judged_rows(spec, options):
        survey.add(each)
    numbers = survey.sample(MOST_ROWS)
    timelines = survey.recordings.timelines()
    recordings = {timeline.audio: i for i, timeline in enumerate(timelines[:SHOWN])}
    found = Exploration(survey, Report(spec))
    entries: list[Entry] = []
    judged, same = tee(some(spec, options, numbers))
    checked = check_rows((each.utterance for each in same), max_seconds)
    for number, each, row in zip(numbers, judged, checked, strict=True):
        if row.utterance is None and each.reasons:
            row = replace(row, flaws=[])  # its reasons say that already
        found.report.add(row)
        entries.append(entry_of(number, row, each.told(recordings), page))
    order = in_turn(entries)
    # The recordings are read again, because all of them might not fit in memory.
    wanted = [*to_embed(entries, order, EMBEDDED_BYTES / LEAST_RATE)]
    again = some(spec, options, [numbers[i] for i in sorted(wanted)])
    audio = {
        i: each.utterance.audio
        for i, each in zip(sorted(wanted), again, strict=False)
        if isinstance(each.utterance, Utterance)
    }
    sounds = embedded((i, audio[i]) for i in wanted if i in audio)
    sections = {
        **described(found.report, entries),
        "survey": survey,
        "timelines": [timeline.to_dict(page) for timeline in timelines[:SHOWN]],
        "more_recordings": len(timelines[SHOWN:]),
        "source": shlex.quote(origin(spec)),
        "table": table(entries, order, sounds),
        "sounds": sounds,
    }
    replace_text(page, render("explore.html", sections))
    return found


def some(spec: str, options: ReadOptions, numbers: Sequence[int]) -> Iterator[Judged]:
    """Yields the rows of some numbers, which are in order."""
    chosen = {*numbers}
    return (each for i, each in enumerate(judged_rows(spec, options)) if i in chosen)


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
