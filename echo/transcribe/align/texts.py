"""Texts of recordings: plain, or with times, as subtitles, CTM and TextGrid have them."""

import html
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pysubs2
import regex
from praatio import textgrid
from praatio.utilities.errors import PraatioException
from pysubs2.exceptions import Pysubs2Error

from echo.support.errors import DataError, reason
from echo.support.files import refuse_pipe
from echo.support.text import brief

# What subtitles say that nobody says: <i>, {\an8}, [music], a line between notes.
TAGS = re.compile(r"<[^<>]*>|\{[^{}]*\}|\[[^\[\]]*\]|[♪♫][^♪♫]*[♪♫]|[♪♫]|\\[Nnh]")
IN_BRACKETS = re.compile(r"\s*\([^()]*\)\s*")  # a sentence that is nothing else
VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]+)>")  # who speaks, in WebVTT
DASH = r"(?:>>+|[-‐‑–—])\s*"
NAMES = r"[^\W\d_][\w.'’-]*(?: [^\W\d_][\w.'’-]*){0,2}"
NAMED = re.compile(rf"\s*(?:{DASH})?({NAMES}):\s+(?=\S)")
# Where a sentence ends, which is not after "Mr." or an initial.
SENTENCE_END = regex.compile(
    r"""(?<=[.!?…]["'”’»)]*)(?<!\b(?:\p{Lu}|Mrs?|Ms|Dr|St|Prof|Jr|Sr)\.)\s+(?=["'“‘«(¿¡]*[\p{Lu}\p{Lo}\d])"""
    r"|(?<=[。！？])(?=.)"
)
PAUSE = 0.6  # seconds between words that begin another sentence, where words have times
PHONES = re.compile(r"phon|segment|syll", re.IGNORECASE)
WORDS = re.compile(r"(?:^|[\s_-])words?$", re.IGNORECASE)


@dataclass(frozen=True)
class Sentence:
    """A sentence, or a line of subtitles."""

    text: str
    speaker: str | None = None
    start: float | None = None  # seconds, where the text has times
    end: float | None = None

    def times(self) -> tuple[float, float]:
        """Returns start and end, of a sentence that has them."""
        assert self.start is not None
        assert self.end is not None
        return self.start, self.end


def read_text(path: Path, recording: str) -> list[Sentence]:
    """Reads a text by its suffix, one of those in READERS.

    Args:
        recording: the name of its recording, which a CTM may have others beside.

    Raises:
        DataError: it cannot be read, or holds no words.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(READERS)
        raise DataError(f"{path}: cannot be aligned; texts end in {known}")
    try:
        refuse_pipe(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = [*reader(path, recording)]
    except UnicodeError:
        raise DataError(f"{path}: is not UTF-8; convert it, for example with iconv") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from None
    except (Pysubs2Error, PraatioException, ValueError, LookupError):
        kind = path.suffix[1:]
        raise DataError(f"{path}: is damaged, or is not a {kind} file") from None
    said = [part for sentence in found for part in cleaned(sentence)]
    if not said:
        raise DataError(f"{path}: holds no words")
    for sentence in said:
        if sentence.start is None:
            continue
        start, end = sentence.times()
        if not 0 <= start <= end < float("inf"):
            raise DataError(
                f"{path}: {brief(sentence.text)!r} is from {start} to {end} s, which cannot be"
            )
    return sorted(said, key=lambda each: each.start or 0.0)


def content(path: Path) -> str:
    """Returns a text file's content: UTF-8, or UTF-16 with its mark."""
    data = path.read_bytes()
    is_wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    return data.decode("utf-16" if is_wide else "utf-8-sig")


def read_plain(path: Path, _: str) -> Iterator[Sentence]:
    """Yields the sentences of each line."""
    for line in content(path).splitlines():
        speaker, text = named(TAGS.sub(" ", line))
        for sentence in SENTENCE_END.split(text):
            yield Sentence(sentence, speaker)


def read_subtitles(path: Path, _: str) -> Iterator[Sentence]:
    """Yields what each speaker says in each cue of SRT, VTT or ASS. The times within a cue are in
    proportion to characters."""
    subtitles = pysubs2.SSAFile.from_string(
        content(path),
        path.suffix.lower().lstrip("."),
        keep_html_tags=True,
        keep_unknown_html_tags=True,
    )
    if not len(subtitles):
        raise DataError(f"{path}: holds no subtitles")
    for cue in subtitles:
        if cue.is_comment or cue.is_drawing:
            continue
        text = html.unescape(cue.plaintext) if subtitles.format == "vtt" else cue.plaintext
        parts = [*spoken_parts(text, cue.name or None)]
        total, done = sum(len(text) for _, text in parts), 0
        start, seconds = cue.start / 1000, (cue.end - cue.start) / 1000
        for speaker, text in parts:
            begin = start + seconds * done / total
            done += len(text)
            yield Sentence(text, speaker, begin, start + seconds * done / total)


def spoken_parts(text: str, speaker: str | None) -> Iterator[tuple[str | None, str]]:
    """Yields who says what in a cue, where a dash or a name begins what somebody else says."""
    said: list[tuple[str | None, list[str]]] = []
    for line in text.splitlines():
        voice = VOICE.search(line)
        bare = TAGS.sub(" ", line)
        name, rest = named(bare)
        name = voice[1].strip() if voice else name
        if not said or name or re.match(rf"\s*{DASH}", bare):
            said.append((name or speaker, []))
        said[-1][1].append(rest)
    for name, lines in said:
        if words := " ".join(lines).split():
            yield name, " ".join(words)


def named(line: str) -> tuple[str | None, str]:
    """Returns who speaks, where a line says so, and the rest of it. Without a dash a name is in
    capitals: others are words."""
    found = NAMED.match(line)
    has_dash = re.match(rf"\s*{DASH}", line)
    if found and (found[1].isupper() or (has_dash and found[1][0].isupper())):
        return found[1], line[found.end() :]
    return None, line[has_dash.end() :] if has_dash else line


def read_ctm(path: Path, recording: str) -> Iterator[Sentence]:
    """Yields the words of a CTM, recording, channel, start, duration and word in each line, joined
    to sentences."""
    found: dict[str, dict[str, list[Sentence]]] = {}  # the words by recording and channel
    for number, line in enumerate(content(path).splitlines(), 1):
        parts = line.split()
        if not parts or line.startswith(";;"):
            continue
        try:
            name, channel, start, duration, word = parts[:5]
            begin = float(start)
            entry = Sentence(word, None, begin, begin + float(duration))
        except ValueError:
            raise DataError(
                f"{path}:{number}: is not recording, channel, start, duration and word"
            ) from None
        found.setdefault(name, {}).setdefault(channel, []).append(entry)
    if len(found) > 1 and recording not in found:
        raise DataError(f"{path}: holds {len(found)} recordings, but not {recording}")
    for name, channels in found.items():
        if name == recording or len(found) == 1:
            for words in channels.values():
                yield from joined(words)


def read_textgrid(path: Path, _: str) -> Iterator[Sentence]:
    """Yields what the tiers of words say, joined to sentences, or else the intervals of the others
    but those of phones. Several tiers are several speakers."""
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False, reportingMode="silence")
    tiers = [
        tier
        for tier in grid.tiers
        if isinstance(tier, textgrid.IntervalTier) and not PHONES.search(tier.name)
    ]
    words = [tier for tier in tiers if WORDS.search(tier.name)]
    for tier in words or tiers:
        speaker = WORDS.sub("", tier.name).strip(" -_") or None
        speaker = speaker if len(words or tiers) > 1 else None
        entries = [Sentence(text, speaker, float(a), float(b)) for a, b, text in tier.entries]
        yield from joined(entries) if words else entries


def joined(words: Iterable[Sentence]) -> Iterator[Sentence]:
    """Yields the sentences that words with times make: they end with a full stop, or a pause."""
    held: list[Sentence] = []
    for word in words:
        if held and (
            word.times()[0] - held[-1].times()[1] >= PAUSE
            or held[-1].text.endswith((".", "?", "!", "。"))
        ):
            yield one_of(held)
            held = []
        held.append(word)
    if held:
        yield one_of(held)


def one_of(words: Sequence[Sentence]) -> Sentence:
    return replace(words[0], text=" ".join(word.text for word in words), end=words[-1].end)


def cleaned(sentence: Sentence) -> Iterator[Sentence]:
    """Yields a sentence without tags, if it still holds words."""
    text = " ".join(TAGS.sub(" ", sentence.text).split())
    if any(map(str.isalnum, text)) and not IN_BRACKETS.fullmatch(text):
        yield replace(sentence, text=text)


READERS: dict[str, Callable[[Path, str], Iterator[Sentence]]] = {
    ".txt": read_plain,
    ".srt": read_subtitles,
    ".vtt": read_subtitles,
    ".ass": read_subtitles,
    ".ctm": read_ctm,
    ".textgrid": read_textgrid,
}
