"""Everything that is wrong with a data set, found in one pass, and what it holds."""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np

from echo.data.check_rows import MAX_CHARS, MAX_SECONDS, CheckedRow, check_rows
from echo.data.sources.reader import AS_USUAL, ReadOptions
from echo.support.text import visible

BIN_EDGES = (0, 0.5, 1, 2, 3, 5, 10, 15, 20, 30, 60, math.inf)  # seconds
BAR_WIDTH = 40


@dataclass
class Report:
    """What a data set holds, over the recordings that decode, and its problems."""

    spec: str
    rows: int = 0
    without_speech: int = 0  # rows that say so by an empty text
    durations: list[float] = field(default_factory=list)  # seconds, as decoded
    speakers: Counter[str] = field(default_factory=Counter)
    formats: Counter[tuple[int, int]] = field(default_factory=Counter)  # (rate in Hz, channels)
    words: Counter[str] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)
    # By kind, one sentence a finding, each naming its row.
    problems: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def hours(self) -> float:
        return sum(self.durations) / 3600

    @property
    def findings(self) -> int:
        """How many there are in all."""
        return sum(map(len, self.problems.values()))

    def add(self, row: CheckedRow) -> None:
        """Counts a row."""
        self.rows += 1
        for kind, finding in row.findings:
            self.problems[kind].append(finding)
        if row.utterance is None or row.decoded is None:
            return
        self.durations.append(row.decoded.seconds)
        self.formats[row.decoded.rate, row.decoded.channels] += 1
        text, speaker = row.utterance.text, row.utterance.speaker
        self.without_speech += not text
        self.words.update(text.split())
        self.characters.update(text)
        if speaker is not None:
            self.speakers[speaker] += 1


def check_source(
    spec: str,
    options: ReadOptions = AS_USUAL,
    max_seconds: float | None = MAX_SECONDS,
    max_chars: int | None = MAX_CHARS,
) -> Report:
    """Reads every row and decodes every recording of a source; see `check_rows`.

    Raises:
        DataError: the source as a whole cannot be read, or holds no row.
    """
    report = Report(spec)
    for row in check_rows(spec, options, max_seconds, max_chars):
        report.add(row)
    return report


def format_report(report: Report) -> str:
    """Returns the report as plain text, for a terminal."""
    lines = [f"{visible(report.spec)}: {report.rows} rows, {report.hours:.2f} hours"]
    if report.durations:
        lines += [f"speakers: {len(report.speakers) or 'not named'}"]
        lines += ["recordings:"]
        for (rate, channels), count in report.formats.most_common():
            lines += [f"  {count} at {rate} Hz, {channels} channel{'s' * (channels > 1)}"]
        lines += ["seconds: " + summary(report.durations), *histogram(report.durations)]
        if report.without_speech:
            lines += [f"without speech: {report.without_speech} rows, whose text is empty"]
        lines += [f"words: {report.words.total()}, {len(report.words)} different"]
        lines += [f"characters: {''.join(sorted(report.characters))!r}"]
    lines += [f"problems: {report.findings or 'none'}"]
    for kind, findings in report.problems.items():
        lines += [
            f"  {kind} ({len(findings)}):",
            *(f"    {visible(finding)}" for finding in findings),
        ]
    return "\n".join(lines)


def summary(durations: list[float]) -> str:
    low, middle, high = np.quantile(durations, (0, 0.5, 1))
    return f"{low:.2f} to {high:.2f}, median {middle:.2f}"


def histogram(durations: list[float]) -> list[str]:
    counts, _ = np.histogram(durations, BIN_EDGES)
    filled = np.flatnonzero(counts)
    return [
        f"  {BIN_EDGES[i]:>4g} to {BIN_EDGES[i + 1]:<4g}"
        f" {'#' * math.ceil(BAR_WIDTH * counts[i] / counts.max()):<{BAR_WIDTH}} {counts[i]}"
        for i in range(filled[0], filled[-1] + 1)
    ]
