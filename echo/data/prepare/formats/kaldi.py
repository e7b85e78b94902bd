"""Kaldi's data folders."""

import re
from pathlib import Path

from echo.data.prepare.formats.format import Format, Placed, RecordingIds, decimal
from echo.data.sources.kaldi import (
    DURATIONS,
    GENDERS,
    LANGUAGES,
    RECORDINGS,
    SEGMENTS,
    SPEAKERS,
    TEXT,
    Line,
    check_path,
)
from echo.support.errors import DataError
from echo.support.files import replace_text

SPACES = re.compile(r"[ \t\r\n\f\v]+")


class Kaldi(Format):
    absolute = True

    def __init__(self) -> None:
        super().__init__()
        self.names = Names(self.notes, "id"), Names(self.notes, "speaker")
        self.recordings = RecordingIds()
        self.rows: dict[str, Placed] = {}
        self.speakers: dict[str, str] = {}  # of utterances
        self.genders: dict[str, str] = {}  # of speakers

    def add(self, row: Placed) -> None:
        utterance = row.utterance
        path = row.recording.path
        if SPACES.sub(" ", utterance.text) != utterance.text:
            raise DataError("has a text with a line break or repeated spaces, which Kaldi joins")
        if "\n" in path or path != path.strip():
            raise DataError(f"has a recording whose name Kaldi cannot hold: {path!r}")
        check_path(Line(f"the path {path!r}", "", path))
        ids, speakers = self.names
        id = ids.of(utterance.id)
        if utterance.speaker is None:
            self.speakers[id] = id
        else:
            self.speakers[id] = speakers.of(utterance.speaker)
            if self.speakers[id] == id:
                self.notes.setdefault("speaker", "one named as its utterance means none in Kaldi")
            gender = utterance.extra.get("gender")
            if isinstance(gender, str) and SPACES.sub("", gender):
                told = self.genders.setdefault(self.speakers[id], SPACES.sub("_", gender))
                if told != SPACES.sub("_", gender):
                    self.notes.setdefault("gender", "a speaker has one, and the first was written")
        kept = (
            ("gender", "recording", "language") if utterance.speaker else ("recording", "language")
        )
        self.cannot_hold(utterance, kept)
        if not path.lower().endswith(".wav"):
            self.notes.setdefault("audio", "Kaldi's own programs read files of no kind but WAV")
        self.rows[id] = row

    def write(self, folder: Path) -> None:
        rows = self.rows
        parts = not all(row.whole for row in rows.values())
        if parts:
            recordings = {id: self.recordings.of(row) for id, row in rows.items()}
        else:  # a recording has the id of its one utterance
            recordings = {id: id for id in rows}
        write_table(
            folder / RECORDINGS, {recordings[id]: row.recording.path for id, row in rows.items()}
        )
        if parts:
            times = {
                id: f"{recordings[id]} {decimal(row.start)} {decimal(row.start + row.duration)}"
                for id, row in rows.items()
            }
            write_table(folder / SEGMENTS, times)
        write_table(folder / TEXT, {id: row.utterance.text for id, row in rows.items()})
        write_table(folder / SPEAKERS, self.speakers)
        write_table(folder / "spk2utt", utterances_of(self.speakers))
        write_table(folder / DURATIONS, {id: decimal(row.duration) for id, row in rows.items()})
        seconds = {recordings[id]: decimal(row.recording.seconds) for id, row in rows.items()}
        write_table(folder / "reco2dur", seconds)
        languages = {
            id: SPACES.sub("_", row.utterance.language)
            for id, row in rows.items()
            if row.utterance.language
        }
        for name, table in ((LANGUAGES, languages), (GENDERS, self.genders)):
            if table:
                write_table(folder / name, table)


class Names:
    """Makes names of one word, of which no two become the same."""

    def __init__(self, notes: dict[str, str], column: str) -> None:
        self.notes = notes
        self.column = column
        self.meant: dict[str, str] = {}  # what each stands for

    def of(self, name: str) -> str:
        word = SPACES.sub("_", name)
        if self.meant.setdefault(word, name) != name:
            raise DataError(
                f"has the {self.column} {name!r}, which is {self.meant[word]!r} once Kaldi's "
                "spaces are underscores"
            )
        if word != name:
            self.notes.setdefault(self.column, "Kaldi has no spaces in it: they became underscores")
        return word


def utterances_of(speakers: dict[str, str]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for id in sorted(speakers, key=str.encode):
        found.setdefault(speakers[id], []).append(id)
    return {speaker: " ".join(ids) for speaker, ids in found.items()}


def write_table(path: Path, lines: dict[str, str]) -> None:
    """Writes lines in the order of the keys' bytes, as Kaldi demands."""
    ordered = sorted(lines.items(), key=lambda line: line[0].encode())
    replace_text(path, "".join(f"{key} {rest}".rstrip() + "\n" for key, rest in ordered))


FORMAT = Kaldi
