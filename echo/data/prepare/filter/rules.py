"""The rules by which rows are kept or rejected, and their thresholds."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import Annotated, Any, NamedTuple

import numpy as np

from echo.data.check import MAX_SECONDS, MIN_SECONDS
from echo.data.prepare.filter.measures import Measured
from echo.data.prepare.filter.wording import identifier, same_language, units
from echo.model.geometry import SAMPLE_RATE
from echo.model.language import known_code
from echo.support.errors import ConfigError
from echo.support.settings import Amount, Positive, PositiveAmount, Range, Share, given

FEWEST = 20  # rows of a language, of which a median and a spread say something
LEAST_SPREAD = 0.03  # of the logarithm of the rate, for sets that are all alike
TO_SPREAD = 1.4826  # the standard deviation of a normal distribution over its median deviation
SLOWEST = 0.01  # characters per second: of a text of signs alone, so that its logarithm is finite
MAJORITY = 0.5  # the share of rows in a language that must have it, where rows do not name theirs
USUAL_SCRIPT = 0.2  # the share of rows of a language in which a script belongs to it
IDENTIFIED = 20  # bytes of text in which a language can be identified
LOOP = 3  # words: shorter repetitions are said, as "no no no" is
SAME_LENGTH = 0.1  # seconds, and 1 %: how far the lengths of the same speech may differ


@dataclass(frozen=True)
class FilterSettings:
    """Thresholds. `null` turns a rule off."""

    # Shortest recording, in seconds.
    min_seconds: PositiveAmount | None = MIN_SECONDS
    # Longest recording, in seconds.
    max_seconds: PositiveAmount | None = MAX_SECONDS
    # Whether a recording with a text must have sound that can be speech.
    voice: bool = True
    # Lowest level of the speech, in dB below a full-scale sine.
    min_level: Annotated[float, Range(-120, 0)] | None = -55.0
    # Lowest ratio of speech to noise, in dB.
    min_snr: Amount | None = 5.0
    # Largest share of a channel's samples at its peak.
    max_clipped: Share | None = 0.001
    # Lowest level from 5 to 7.5 kHz over that from 2.5 to 3.5 kHz, in dB, of recordings at 16 kHz
    # or more: what is below was made from 8 kHz.
    min_high_band: Annotated[float, Range(-200, 0)] | None = -30.0
    # Whether recordings are rejected whose channels cancel each other out.
    opposite_channels: bool = True
    # Largest deviation of the characters per second of speech from the median of the speaker, or of
    # the language where the speaker has under 20 rows, in robust standard deviations.
    max_rate_deviation: PositiveAmount | None = 3.0
    # Fewest letters and digits per second of speech; by default the deviation alone counts.
    min_rate: PositiveAmount | None = None
    # Most letters and digits per second of speech; by default the deviation alone counts.
    max_rate: PositiveAmount | None = None
    # Largest share of letters in scripts that do not belong to the language.
    max_other_scripts: Share | None = 0.2
    # The scripts that belong, by their names in Unicode such as LATIN; by default those that a
    # fifth of a language's rows have.
    scripts: list[str] | None = None
    # All characters that texts may have besides spaces; by default any.
    alphabet: str | None = None
    # Whether texts are rejected that hold control characters, markup, or wrongly decoded letters.
    damaged_text: bool = True
    # Least confidence, from 0 to 1, with which a text is identified as in another language.
    other_language: Share | None = 0.8
    # The language of rows that name none, as en; by default that of most texts.
    language: str | None = None
    # Largest share of a text's words that only repeat those before them.
    max_repeated: Share | None = 0.4
    # Whether texts are rejected that hold a stock phrase of subtitles ("thanks for watching").
    stock_phrases: bool = True
    # Largest word error rate of the model's transcript.
    max_wer: Amount | None = 0.5
    # Largest character error rate of the first or last three words.
    max_edge_cer: Amount | None = 0.6
    # Largest share of a fingerprint's bits in which recordings differ that are the same.
    same_sound: Share | None = 0.15
    # Fewest words of a text that a speaker says once; shorter ones may be said again.
    same_text: Positive | None = 5

    def __post_init__(self) -> None:
        for low, high in (("min_seconds", "max_seconds"), ("min_rate", "max_rate")):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise ValueError(f"{low} is {least:g}, more than {high}, {most:g}")
        for name in ("max_clipped", "max_other_scripts", "max_repeated", "same_sound"):
            if getattr(self, name) == 1:
                raise ValueError(f"{name}=1 has no effect: give {name}=null to turn the rule off")
        for name, other in (("scripts", "max_other_scripts"), ("language", "other_language")):
            if getattr(self, name) is not None and getattr(self, other) is None:
                raise ValueError(f"{name} has no effect with {other}=null")


@dataclass(frozen=True)
class Heard:
    """What a model hears in a recording, beside the text."""

    text: str
    wer: float
    start: float  # CER of the first words
    end: float  # CER of the last words


# Returns what a model hears in rows of a data set: given all of them by number, and those to hear.
Hear = Callable[[Mapping[int, Measured], Sequence[int]], Mapping[int, Heard]]


class Reason(NamedTuple):
    rule: str
    figure: float | str
    what: str  # "lasts 31.00 s, more than 30 s"


# What a row is found to be: its number, and the reason to reject it, if there is one.
Verdict = tuple[int, Reason | None]
# Yields verdicts on the rows, by their numbers, that a rule can judge.
Judge = Callable[[Mapping[int, Any], FilterSettings], Iterator[Verdict]]


@dataclass(frozen=True)
class Rule:
    name: str
    settings: tuple[str, ...]  # those that it goes by; the first turns it off
    judge: Judge


def by_figure(
    name: str, setting: str, figure: Callable[[Any], float | str | None], what: str
) -> Rule:
    """A rule that a figure of a row must not be below a `min_` or above a `max_`, or must be false
    by any other setting. Rows that have no such figure are not judged."""

    def judge(rows: Mapping[int, Any], settings: FilterSettings) -> Iterator[Verdict]:
        bound = getattr(settings, setting)
        for i, row in rows.items():
            value: Any = figure(row)
            if value is None:
                continue
            if setting.startswith("min_"):
                wrong = value < bound
            else:
                wrong = value > bound if setting.startswith("max_") else value
            yield i, Reason(name, value, what.format(value, bound, row=row)) if wrong else None

    return Rule(name, (setting,), judge)


def rows_by_language(rows: Mapping[int, Measured]) -> Mapping[str, list[int]]:
    """Returns the rows of each language; "" for those that name none."""
    found: dict[str, list[int]] = defaultdict(list)
    for i, row in rows.items():
        found[code_of(row.utterance.language or "")].append(i)
    return found


def rate(row: Measured) -> float | None:
    """Returns the characters per second of speech; None where nothing is said or heard."""
    if not row.utterance.text or not row.sound.voice:
        return None
    return row.text.characters / row.sound.voice


def rates(rows: Mapping[int, Measured], settings: FilterSettings) -> Iterator[Verdict]:
    """Compares each row with the median of its speaker, or of its language where the speaker has
    few rows, by the spread in the language. Short texts deviate by chance, so they may deviate
    more."""
    most = settings.max_rate_deviation or 0.0
    for members in rows_by_language(rows).values():
        found = {i: value for i in members if (value := rate(rows[i])) is not None}
        if len(found) < FEWEST:
            continue
        middles = middles_of(found, {i: rows[i].utterance.speaker for i in found})
        off = {i: log(max(value, SLOWEST)) - middles[i] for i, value in found.items()}
        spread = max(LEAST_SPREAD, TO_SPREAD * statistics.median(map(abs, off.values())))
        lengths = {i: max(1, rows[i].text.characters) for i in found}
        usual = statistics.median(lengths.values())
        for i, value in found.items():
            deviation = off[i] / (spread * sqrt(max(1.0, usual / lengths[i])))
            what = (
                f"has {value:.1f} characters per second of speech, {abs(deviation):.1f} standard "
                f"deviations from the usual {exp(middles[i]):.1f}"
            )
            yield i, Reason("rate", value, what) if abs(deviation) > most else None


def middles_of(rates: Mapping[int, float], speakers: Mapping[int, str | None]) -> dict[int, float]:
    """Returns the logarithm of the median rate of each row's speaker, or of all where the speaker
    has few rows."""
    logs = {i: log(max(value, SLOWEST)) for i, value in rates.items()}
    everyone = statistics.median(logs.values())
    by_speaker: dict[str | None, list[float]] = defaultdict(list)
    for i, speaker in speakers.items():
        by_speaker[speaker].append(logs[i])
    own = {s: statistics.median(v) for s, v in by_speaker.items() if s and len(v) >= FEWEST}
    return {i: own.get(speaker or "", everyone) for i, speaker in speakers.items()}


def other_scripts(rows: Mapping[int, Measured], settings: FilterSettings) -> Iterator[Verdict]:
    for members in rows_by_language(rows).values():
        written = {i: scripts for i in members if (scripts := rows[i].text.scripts)}
        if settings.scripts is None:
            counts = Counter(script for scripts in written.values() for script in scripts)
            usual = USUAL_SCRIPT * len(written)
            belong = {script for script, count in counts.items() if count >= usual}
        else:
            belong = {script.upper() for script in settings.scripts}
        for i, scripts in written.items():
            other = {script: count for script, count in scripts.items() if script not in belong}
            share = sum(other.values()) / sum(scripts.values())
            what = f"has {share:.0%} of its letters in other scripts: {', '.join(other)}"
            wrong = share > (settings.max_other_scripts or 0.0)
            yield i, Reason("script", share, what) if wrong else None


def outside_alphabet(rows: Mapping[int, Measured], settings: FilterSettings) -> Iterator[Verdict]:
    allowed = set(settings.alphabet or "")
    for i, row in rows.items():
        other = "".join(sorted({c for c in row.utterance.text if not c.isspace()} - allowed))
        what = f"has characters outside the alphabet: {other!r}"
        yield i, Reason("alphabet", other, what) if other else None


def other_languages(rows: Mapping[int, Measured], settings: FilterSettings) -> Iterator[Verdict]:
    languages = rows_by_language(rows)
    if settings.language and "" not in languages:
        raise ConfigError("language has no effect: every row names its own")
    for named, members in languages.items():
        expected = named or code_of(settings.language or "")
        if not expected:
            ((likely, count),) = Counter(rows[i].text.language for i in members).most_common(1)
            if count <= MAJORITY * len(members):
                continue
            expected = likely or ""
        if expected not in {same_language(label) for label in identifier().labels}:
            continue
        for i in members:
            row = rows[i]
            if row.text.language is None or len(row.utterance.text.encode()) < IDENTIFIED:
                continue
            what = f"is in the language {row.text.language}, not {expected}"
            what += f", with a confidence of {row.text.confidence:.2f}"
            wrong = row.text.language != expected
            wrong &= row.text.confidence >= (settings.other_language or 0.0)
            yield i, Reason("language", row.text.language, what) if wrong else None


def code_of(language: str) -> str:
    return same_language(known_code(language) or language.lower().split("-")[0])


def share_repeated(row: Measured) -> float | None:
    if not row.text.words:
        return None
    return row.text.repeated / row.text.words if row.text.repeated >= LOOP else 0.0


def same_sounds(rows: Mapping[int, Measured], settings: FilterSettings) -> Iterator[Verdict]:
    prints = {i: row.sound.fingerprint for i, row in rows.items() if row.sound.fingerprint}
    by_span = sorted(prints, key=lambda i: (rows[i].sound.span, i))
    if not by_span:
        return
    spans = np.array([rows[i].sound.span for i in by_span])
    bits = np.array([np.frombuffer(bytes.fromhex(prints[i]), "u8") for i in by_span])
    whole = bits[0].nbytes * 8
    most = whole * (settings.same_sound or 0.0)
    ends = np.searchsorted(spans, spans * 1.01 + SAME_LENGTH, "right")
    partners: dict[int, list[tuple[int, int]]] = defaultdict(list)  # earlier rows, and their bits
    for place, end in enumerate(ends):
        differ = np.bitwise_count(bits[place] ^ bits[place + 1 : end]).sum(1, dtype=int)
        for other in np.flatnonzero(differ <= most):
            first, second = sorted((by_span[place], by_span[place + 1 + other]))
            partners[second].append((first, int(differ[other])))
    copies: set[int] = set()
    for i in sorted(prints):
        originals = [(differ, first) for first, differ in partners[i] if first not in copies]
        if not originals:
            yield i, None
            continue
        copies.add(i)
        differ, first = min(originals)
        share = differ / whole
        what = f"sounds like {rows[first].utterance.where} ({share:.0%} of the bits differ)"
        yield i, Reason("same sound", share, what)


def same_texts(rows: Mapping[int, Measured], settings: FilterSettings) -> Iterator[Verdict]:
    first: dict[tuple[str | None, str], int] = {}
    for i, row in rows.items():
        if row.text.words < (settings.same_text or 1):
            continue
        said = row.utterance.speaker, " ".join(units(row.utterance.text))
        earlier = first.setdefault(said, i)
        where = rows[earlier].utterance.where
        what = f"has the text of {where}, of the same speaker"
        yield i, Reason("same text", where, what) if earlier != i else None


SOUND_AND_TEXT = [
    by_figure(
        "too short", "min_seconds", lambda r: r.sound.seconds, "lasts {:.2f} s, less than {:g} s"
    ),
    by_figure(
        "too long", "max_seconds", lambda r: r.sound.seconds, "lasts {:.2f} s, more than {:g} s"
    ),
    by_figure(
        "no voice",
        "voice",
        lambda r: float(r.sound.voice == 0) if r.utterance.text else None,
        "has a text, but nothing in it rises like a voice",
    ),
    by_figure(
        "quiet", "min_level", lambda r: r.sound.level, "has a level of {:.1f} dB, below {:g} dB"
    ),
    by_figure("noisy", "min_snr", lambda r: r.sound.snr, "has an SNR of {:.1f} dB, below {:g} dB"),
    by_figure(
        "clipped",
        "max_clipped",
        lambda r: r.sound.clipped,
        "has {:.2%} of its samples at the peak, more than {:.2%}",
    ),
    by_figure(
        "bandwidth",
        "min_high_band",
        lambda r: r.sound.high_band if r.sound.rate >= SAMPLE_RATE else None,
        "was made from 8 kHz: above 5 kHz it has {:.1f} dB of what is below, less than {:g} dB",
    ),
    by_figure(
        "opposite channels",
        "opposite_channels",
        lambda r: float(r.sound.cancels) if r.sound.channels > 1 else None,
        "has channels in opposite phase, which most programs mix to silence",
    ),
    Rule("rate", ("max_rate_deviation",), rates),
    by_figure("slow", "min_rate", rate, "has {:.1f} characters per second of speech, below {:g}"),
    by_figure("fast", "max_rate", rate, "has {:.1f} characters per second of speech, above {:g}"),
    Rule("script", ("max_other_scripts", "scripts"), other_scripts),
    Rule("alphabet", ("alphabet",), outside_alphabet),
    by_figure(
        "damaged text", "damaged_text", lambda r: r.text.damage or "", "holds {!r}, which is damage"
    ),
    Rule("language", ("other_language", "language"), other_languages),
    by_figure(
        "loop",
        "max_repeated",
        share_repeated,
        "has {:.0%} words that repeat those before them, more than {:.0%}",
    ),
    by_figure(
        "stock phrase", "stock_phrases", lambda r: r.text.stock or "", "holds {!r}, as subtitles do"
    ),
]
# These go by what a model hears, which is None where it cannot hear a row.
BY_MODEL = [
    by_figure(
        "wer",
        "max_wer",
        lambda heard: heard and heard.wer,
        "has a WER of {:.2f}, more than {:g}, to: {row.text!r}",
    ),
    by_figure(
        "start",
        "max_edge_cer",
        lambda heard: heard and heard.start,
        "starts with a CER of {:.2f} > {:g}, to: {row.text!r}",
    ),
    by_figure(
        "end",
        "max_edge_cer",
        lambda heard: heard and heard.end,
        "ends with a CER of {:.2f} > {:g}, to: {row.text!r}",
    ),
]
# These keep the first of the rows that no other rule rejects.
DUPLICATES = [
    Rule("same sound", ("same_sound",), same_sounds),
    Rule("same text", ("same_text",), same_texts),
]


def check_model_settings(settings: FilterSettings, with_model: bool) -> None:
    """Raises ConfigError if thresholds for a model are given without one, or all are off with
    one."""
    by_model = [*dict.fromkeys(name for rule in BY_MODEL for name in rule.settings)]
    for name in by_model:
        if not with_model and name in given(settings) and getattr(settings, name) is not None:
            raise ConfigError(f"{name} has no effect without --model")
    if with_model and all(getattr(settings, name) is None for name in by_model):
        raise ConfigError(f"--model has no effect with {'=null and '.join(by_model)}=null")


def judge_rows(
    rows: Mapping[int, Measured], settings: FilterSettings, hear: Hear | None = None
) -> dict[int, list[Reason]]:
    """Returns the reasons to reject rows, by their numbers. A model hears those that rules without
    one keep. ConfigError if a threshold that was given has no effect."""
    asked = given(settings)
    reasons: dict[int, list[Reason]] = defaultdict(list)
    offered: set[str] = set()  # the settings of rules that were given rows
    judged: set[str] = set()  # and of those that could judge one

    def apply(rules: Sequence[Rule], rows: Mapping[int, Any]) -> None:
        for rule in rules:
            if getattr(settings, rule.settings[0]) in (None, False):
                continue
            offered.update(rule.settings if rows else ())
            for i, reason in rule.judge(rows, settings):
                judged.update(rule.settings)
                if reason:
                    reasons[i].append(reason)

    def left() -> dict[int, Measured]:
        return {i: row for i, row in rows.items() if i not in reasons}

    apply(SOUND_AND_TEXT, rows)
    if hear is not None:
        kept = [*left()]
        heard = hear(rows, kept)
        apply(BY_MODEL, {i: heard.get(i) for i in kept})
    apply(DUPLICATES, left())
    for name in sorted(asked & offered - judged):
        if getattr(settings, name) not in (None, False):
            raise ConfigError(f"{name} has no effect: no row of this data set can be judged by it")
    return dict(reasons)
