"""Everything that is wrong with a data set, found in one pass, and what it holds."""

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from echo.data.mixing import cancels, to_mono_16k
from echo.data.sources import scan_source
from echo.data.sources.reader import AS_USUAL, ReadOptions
from echo.data.utterance import Utterance, about_equal
from echo.data.voice import has_voice
from echo.support.errors import DataError
from echo.support.progress import progress_bar
from echo.support.text import visible

MAX_SECONDS = 30.0  # what Whisper's encoder hears
# 448 tokens, the length of Whisper's decoder, at four characters each, which is English's average.
MAX_CHARS = 448 * 4
MIN_SECONDS = 0.1
FULL_SCALE = 0.999  # a sample this loud was probably louder
MAX_CLIPPED = 0.001  # the share of such samples that a shout has without being damaged
SILENCE = 1e-4  # -80 dBFS: what a lossy codec may leave of digital silence
# What is left in a text where the quoting of a table is not undone.
QUOTING = re.compile(r"""^(["']).*\1$|"\"""")
# Kinds of flaws of rows that training cannot use.
DAMAGED = UNUSABLE, UNREADABLE = "unusable rows", "unreadable recordings"
BIN_EDGES = (0, 0.5, 1, 2, 3, 5, 10, 15, 20, 30, 60, math.inf)  # seconds
BAR_WIDTH = 40


class Flaw(NamedTuple):
    kind: str  # "too short"
    what: str  # "lasts 0.05 s, less than 0.1 s"; of an unusable row, a sentence that names it


class Decoded(NamedTuple):
    """What a recording turned out to be."""

    seconds: float
    rate: int  # Hz
    channels: int


@dataclass(frozen=True)
class CheckedRow:
    """A row, and everything that is wrong with it."""

    utterance: Utterance | None  # None where the row cannot be used
    decoded: Decoded | None  # None where there is no recording that can be
    flaws: list[Flaw]

    @property
    def findings(self) -> Iterator[tuple[str, str]]:
        """The kind of each flaw, and a sentence that names the row."""
        for kind, what in self.flaws:
            yield kind, f"{self.utterance.where}: {what}" if self.utterance else what


def check_rows(
    rows: Iterable[Utterance | DataError],
    max_seconds: float | None = MAX_SECONDS,
    max_chars: int | None = MAX_CHARS,
) -> Iterator[CheckedRow]:
    """Checks rows and their recordings, in order, and takes one only when it is asked for one."""
    seen: dict[str | bytes, str] = {}  # ids and recordings -> where they came first
    for row in progress_bar(rows, desc="checking", unit=" rows"):
        if isinstance(row, DataError):
            yield CheckedRow(None, None, [Flaw(UNUSABLE, str(row))])
            continue
        flaws = [*row_flaws(row, max_chars, seen)]
        try:
            samples, rate = row.audio.read()
            mono = to_mono_16k(samples, rate, row.id)  # refuses what training would refuse
        except DataError as error:
            yield CheckedRow(row, None, [*flaws, Flaw(UNREADABLE, str(error))])
            continue
        channels, length = samples.shape
        flaws += audio_flaws(row, samples, rate, mono, max_seconds, seen)
        yield CheckedRow(row, Decoded(length / rate, rate, channels), flaws)


def row_flaws(
    row: Utterance, max_chars: int | None, seen: dict[str | bytes, str]
) -> Iterator[Flaw]:
    if max_chars is not None and len(row.text) > max_chars:
        yield Flaw("long texts", f"has {len(row.text)} characters of text, more than {max_chars}")
    if len(row.text.splitlines()) > 1:
        what = "has a line break in its text, as after an unclosed quote"
        yield Flaw("texts of several lines", what)
    if QUOTING.search(row.text):
        yield Flaw("quoted texts", "has quote marks around or doubled in its text, as in a table")
    if (first := seen.setdefault(row.id, row.where)) != row.where:
        yield Flaw("repeated ids", f"has the same id as {first}: {row.id!r}")


def audio_flaws(
    row: Utterance,
    samples: torch.Tensor,
    rate: int,
    mono: torch.Tensor,
    max_seconds: float | None,
    seen: dict[str | bytes, str],
) -> Iterator[Flaw]:
    seconds = samples.shape[-1] / rate
    if not about_equal(row.duration, seconds):
        yield Flaw("wrong durations", f"lasts {seconds:.2f} s, not {row.duration:.2f} s as given")
    if seconds < MIN_SECONDS:
        yield Flaw("too short", f"lasts {seconds:.3f} s, less than {MIN_SECONDS} s")
    if max_seconds is not None and seconds > max_seconds:
        yield Flaw("too long", f"lasts {seconds:.2f} s, more than {max_seconds:g} s")
    if samples.abs().max() < SILENCE:
        yield Flaw("silent", "is digital silence")
    elif row.text and seconds >= MIN_SECONDS and not has_voice(mono):
        yield Flaw("no voice", "has a text and sound, but nothing in it rises like a voice")
    if cancels(samples, rate):
        what = "has channels in opposite phase, which most programs mix to silence"
        yield Flaw("opposite channels", what)
    clipped = (samples.abs() >= FULL_SCALE).float().mean().item()
    if clipped > MAX_CLIPPED:
        yield Flaw("clipped", f"{clipped:.1%} of its samples are at full scale")
    # By its samples, a copy is found under another name as well.
    digest = hashlib.blake2b(samples.numpy().tobytes(), digest_size=16).digest()
    if (first := seen.setdefault(digest, row.where)) != row.where:
        yield Flaw("repeated recordings", f"has the same recording as {first}")


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
        return sum(map(len, self.problems.values()))

    def add(self, row: CheckedRow) -> None:
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
    """Reads every row and decodes every recording of a source that `read_source` takes. DataError
    if the source as a whole cannot be read, or holds no row."""
    report = Report(spec)
    for row in check_rows(scan_source(spec, options), max_seconds, max_chars):
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
        low, middle, high = np.quantile(report.durations, (0, 0.5, 1))
        lines += [f"seconds: {low:.2f} to {high:.2f}, median {middle:.2f}"]
        lines += histogram(report.durations)
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


def histogram(durations: list[float]) -> list[str]:
    counts, _ = np.histogram(durations, BIN_EDGES)
    filled = np.flatnonzero(counts)
    return [
        f"  {BIN_EDGES[i]:>4g} to {BIN_EDGES[i + 1]:<4g}"
        f" {'#' * math.ceil(BAR_WIDTH * counts[i] / counts.max()):<{BAR_WIDTH}} {counts[i]}"
        for i in range(filled[0], filled[-1] + 1)
    ]
