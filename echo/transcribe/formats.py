"""Transcripts as files: plain text, subtitles and tables."""

import html
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from echo.support.errors import ConfigError
from echo.support.files import replace_text
from echo.transcribe.subtitles import Layout, as_cues
from echo.transcribe.transcript import Segment, Transcript, Word


def render_txt(transcript: Transcript) -> str:
    """A line for each segment."""
    return "".join(f"{segment.text}\n" for segment in transcript.segments)


def render_srt(transcript: Transcript) -> str:
    """SubRip, where "-->" may not occur in a text."""
    return "".join(
        f"{number}\n{span(segment, ',')}\n{segment.text.replace('-->', '->')}\n\n"
        for number, segment in enumerate(transcript.segments, 1)
    )


def render_vtt(transcript: Transcript) -> str:
    """WebVTT, whose texts are marked up as in HTML."""
    cues = (
        f"\n{span(segment, '.')}\n{html.escape(segment.text, quote=False)}\n"
        for segment in transcript.segments
    )
    return "WEBVTT\n" + "".join(cues)


def render_tsv(transcript: Transcript) -> str:
    """A table of start and end, in milliseconds, and text, as OpenAI's Whisper writes it."""
    rows = (
        f"{milliseconds(segment.start)}\t{milliseconds(segment.end)}\t{segment.text}\n"
        for segment in transcript.segments
    )
    return "start\tend\ttext\n" + "".join(rows)


def render_json(transcript: Transcript) -> str:
    """Everything, with words where their times are known."""
    segments = []
    for segment in transcript.segments:
        entry = timed(segment)
        if segment.decoding is not None:
            known = asdict(segment.decoding).items()
            entry |= {name: round(value, 3) for name, value in known if value is not None}
        if segment.words is not None:
            entry["words"] = [timed(word) for word in segment.words]
        segments.append(entry)
    content = {
        "duration": round(transcript.duration, 3),
        "language": transcript.language,
        "text": transcript.text,
        "segments": segments,
    }
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


FORMATS: dict[str, Callable[[Transcript], str]] = {
    "txt": render_txt,
    "srt": render_srt,
    "vtt": render_vtt,
    "tsv": render_tsv,
    "json": render_json,
}
SUBTITLES = ("srt", "vtt")


def read_formats(text: str, words: bool = False, layout: bool = False) -> list[str]:
    """Returns the formats in "txt,srt". Raises ConfigError where one is unknown, or none does what
    is asked for: the times of words, or a layout of subtitles."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in FORMATS:
            raise ConfigError(f"unknown format {name!r}; there are: {', '.join(FORMATS)}")
    if words and not {"json", *SUBTITLES}.intersection(names):
        raise ConfigError(
            "the times of words are written to json and cut the cues of srt and vtt, so one of "
            "these formats must be given"
        )
    if layout and not set(SUBTITLES).intersection(names):
        raise ConfigError(
            "--max-line-width and --max-line-count are for srt and vtt, so one of these formats "
            "must be given"
        )
    return names


def write_transcript(
    transcript: Transcript,
    folder: Path,
    name: str,
    formats: Sequence[str],
    layout: Layout | None = None,
) -> None:
    """Writes `folder/name.format` for each format, every file whole or not at all. Without a
    layout, subtitles have the usual one."""
    for kind in formats:
        shown = as_cues(transcript, layout or Layout()) if kind in SUBTITLES else transcript
        replace_text(folder / f"{name}.{kind}", FORMATS[kind](shown))


def span(segment: Segment, point: str) -> str:
    """Start and end in hours, minutes and seconds to the millisecond, as 00:01:02,345."""
    clocks = []
    for seconds in (segment.start, segment.end):
        minutes, rest = divmod(milliseconds(seconds), 60_000)
        clocks.append(
            f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"
        )
    return " --> ".join(clocks)


def milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


def timed(part: Segment | Word) -> dict[str, object]:
    found: dict[str, object] = {
        "start": round(part.start, 3),
        "end": round(part.end, 3),
        "text": part.text,
    }
    if part.confidence is not None:
        found["confidence"] = round(part.confidence, 3)
    return found
