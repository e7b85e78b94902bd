"""Kaldi's data folders: wav.scp names recordings, segments parts of them, and text what is said."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echo.data.audio import Audio
from echo.data.sources.files import Recordings, check_encoding, read_lines
from echo.data.sources.reader import Reader, ReadOptions
from echo.data.sources.row import CHANNEL, Record, Row, Rows
from echo.support.errors import DataError

RECORDINGS, SEGMENTS, TEXT = "wav.scp", "segments", "text"
# Further files, and the columns that they give.
SPEAKERS, LANGUAGES, DURATIONS = "utt2spk", "utt2lang", "utt2dur"
GENDERS = "spk2gender"
LINE = re.compile(r"[ \t]*([^ \t\r\n]+)[ \t]*(.*)", re.DOTALL)  # a key and what belongs to it
IN_ARCHIVE = re.compile(r"\.ark:\d+(\[.*\])?$")
TO_THE_END = -1.0  # what a segment's end may be


@dataclass(frozen=True)
class Line:
    """A line of a file, whose first word is a key."""

    where: str
    key: str
    rest: str


class KaldiReader(Reader):
    marks = (RECORDINGS,)

    def read(self, spec: str, options: ReadOptions) -> Rows:
        """Yields a row for each segment, or each recording where there is no file of segments.
        Paths are relative to the folder, or to where the command is run, as in Kaldi."""
        folder = Path(spec)
        problems: list[DataError] = []

        def table(name: str, needed: bool = False) -> dict[str, Line]:
            lines: dict[str, Line] = {}
            if not needed and not (folder / name).is_file():
                return lines
            for line in read_table(folder / name, problems):
                if lines.setdefault(line.key, line) is not line:
                    problems.append(DataError(f"{line.where}: {name} has {line.key!r} twice"))
            return lines

        needs_text = options.columns.needs_text
        texts = table(TEXT, needs_text)
        recordings = table(RECORDINGS, needed=True)
        segments = table(SEGMENTS)
        has_segments = (folder / SEGMENTS).is_file()
        speakers, languages = table(SPEAKERS), table(LANGUAGES)
        durations, genders = table(DURATIONS), table(GENDERS)
        files = Recordings((folder, Path()), (folder.resolve(),), options.allow_outside)

        def find(record: Record, column: str) -> Audio:
            line = recordings.get(record["recording"])
            if line is None:
                raise DataError(f"{RECORDINGS} has no recording {record['recording']!r}")
            check_path(line)
            return files.of(record, column)

        for line in (segments if has_segments else recordings).values():
            try:
                record: dict[str, Any] = part(line) if has_segments else {"recording": line.key}
                if needs_text and line.key not in texts:
                    raise DataError(f"{folder / TEXT} has no line for {line.key!r}")
            except DataError as error:
                yield DataError(f"{line.where}: {error}")
                continue
            told = recordings.get(record["recording"])
            record |= {"id": line.key, "audio": told.rest if told else ""}
            record["text"] = texts[line.key].rest if line.key in texts else None
            if line.key in speakers:
                speaker = speakers[line.key].rest
                # Kaldi needs a speaker for each utterance: where it is not known, its own id.
                record["speaker"] = None if speaker == line.key else speaker
                if speaker in genders:
                    record["gender"] = genders[speaker].rest
            if line.key in languages:
                record["language"] = languages[line.key].rest
            if not has_segments and line.key in durations:
                with suppress(ValueError):
                    record["duration"] = float(durations[line.key].rest)
            yield Row(line.where, record, find, options.columns)
        found = segments if has_segments else recordings
        for key, line in texts.items():
            if key not in found:
                name = SEGMENTS if has_segments else RECORDINGS
                yield DataError(f"{line.where}: {folder / name} has no line for {key!r}")
        yield from problems


def read_table(path: Path, problems: list[DataError]) -> Iterator[Line]:
    """Yields the lines of a file but blank ones, and adds what is wrong with others to the
    problems."""
    for number, text in enumerate(read_lines(path), 1):
        where = f"{path}:{number}"
        try:
            check_encoding(text)
        except DataError as error:
            problems.append(DataError(f"{where}: {error}"))
            continue
        if found := LINE.match(text):
            yield Line(where, found[1], found[2].rstrip())


def part(line: Line) -> dict[str, Any]:
    """Returns the recording that a segment is a part of, its times, and its channel if it is one of
    several."""
    words = line.rest.split()
    try:
        recording, start, end = words[0], float(words[1]), float(words[2])
    except (IndexError, ValueError):
        raise DataError(
            "a segment must be an id, a recording, and a start and an end in seconds"
        ) from None
    times = {"start": start} if end == TO_THE_END else {"start": start, "end": end}
    channel = {CHANNEL: words[3]} if len(words) > 3 else {}
    return {"recording": recording, **times, **channel}


def check_path(line: Line) -> None:
    """Raises DataError where a line of wav.scp names something else than a file."""
    if line.rest.endswith("|") or line.rest.startswith("|"):
        raise DataError(
            f"{line.where} is a command, which is never run: write what it gives to a file, and "
            "name that"
        )
    if line.rest == "-" or IN_ARCHIVE.search(line.rest):
        raise DataError(
            f"{line.where} is a place in an archive or stream, which is not read: write the "
            "recording to a file, and name that"
        )
