"""Everything that is wrong with a data set, found in one pass, and what it holds."""

import hashlib
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from tqdm import tqdm

from echo.data.audio import to_mono_16k
from echo.data.sources import Columns, scan_source
from echo.data.sources.columns import USUAL
from echo.data.utterance import Utterance
from echo.support.errors import DataError
from echo.support.text import visible

MIN_SECONDS = 0.1
FULL_SCALE = 0.999  # a sample this loud was probably louder
MAX_CLIPPED = 0.001  # the share of such samples that a shout has without being damaged
SILENCE = 1e-4  # -80 dBFS: what a lossy codec may leave of digital silence

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


def check_source(
    spec: str,
    columns: Columns = USUAL,
    max_seconds: float | None = 30.0,
    max_chars: int | None = 448 * 4,
    allow_outside: bool = False,
) -> Report:
    """Reads every row and decodes every recording of a source that `read_source` takes.

    Args:
        spec, columns, allow_outside: as for `read_source`.
        max_seconds: the longest recording to accept; the default is what Whisper's encoder hears.
        max_chars: the longest text to accept; by default 448 tokens, the length of Whisper's
            decoder, at four characters each, which is English's average.

    Raises:
        DataError: the source as a whole cannot be read, or holds no row.
    """
    report = Report(spec)
    seen: dict[str | bytes, str] = {}  # ids and recordings -> where they came first
    rows = scan_source(spec, columns, allow_outside)
    for row in tqdm(rows, desc="checking", unit=" rows", file=sys.stderr, disable=None):
        report.rows += 1
        if isinstance(row, DataError):
            report.problems["unusable rows"].append(str(row))
            continue
        findings = [*row_flaws(row, max_chars, seen)]
        try:
            samples, rate = row.audio.read()
            to_mono_16k(samples, rate, row.id)  # refuses what training would refuse
        except DataError as error:
            findings.append(("unreadable recordings", str(error)))
        else:
            describe(report, row, samples, rate)
            findings += audio_flaws(row, samples, rate, max_seconds, seen)
        for kind, finding in findings:
            report.problems[kind].append(f"{row.where}: {finding}")
    return report


def describe(report: Report, row: Utterance, samples: torch.Tensor, rate: int) -> None:
    report.durations.append(samples.shape[-1] / rate)
    report.formats[rate, samples.shape[0]] += 1
    report.without_speech += not row.text
    report.words.update(row.text.split())
    report.characters.update(row.text)
    if row.speaker is not None:
        report.speakers[row.speaker] += 1


def row_flaws(
    row: Utterance, max_chars: int | None, seen: dict[str | bytes, str]
) -> Iterator[tuple[str, str]]:
    if max_chars is not None and len(row.text) > max_chars:
        yield "long texts", f"has {len(row.text)} characters of text, more than {max_chars}"
    if len(row.text.splitlines()) > 1:
        yield "texts of several lines", "has a line break in its text, as after an unclosed quote"
    if (first := seen.setdefault(row.id, row.where)) != row.where:
        yield "repeated ids", f"has the same id as {first}: {row.id!r}"


def audio_flaws(
    row: Utterance,
    samples: torch.Tensor,
    rate: int,
    max_seconds: float | None,
    seen: dict[str | bytes, str],
) -> Iterator[tuple[str, str]]:
    seconds = samples.shape[-1] / rate
    if abs(seconds - row.duration) > 0.1 + 0.01 * seconds:
        yield "wrong durations", f"lasts {seconds:.2f} s, not {row.duration:.2f} s as given"
    if seconds < MIN_SECONDS:
        yield "too short", f"lasts {seconds:.3f} s, less than {MIN_SECONDS} s"
    if max_seconds is not None and seconds > max_seconds:
        yield "too long", f"lasts {seconds:.2f} s, more than {max_seconds:g} s"
    if samples.abs().max() < SILENCE:
        yield "silent", "is digital silence"
    clipped = (samples.abs() >= FULL_SCALE).float().mean().item()
    if clipped > MAX_CLIPPED:
        yield "clipped", f"{clipped:.1%} of its samples are at full scale"
    # By its samples, a copy is found under another name as well.
    digest = hashlib.blake2b(samples.numpy().tobytes(), digest_size=16).digest()
    if (first := seen.setdefault(digest, row.where)) != row.where:
        yield "repeated recordings", f"has the same recording as {first}"


def format_report(report: Report) -> str:
    """The report as plain text, for a terminal."""
    hours = sum(report.durations) / 3600
    lines = [f"{visible(report.spec)}: {report.rows} rows, {hours:.2f} hours"]
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
    lines += [f"problems: {sum(map(len, report.problems.values())) or 'none'}"]
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
