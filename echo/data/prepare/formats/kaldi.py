"""Kaldi's data folders."""

from dataclasses import replace
from pathlib import Path

from echo.data.audio import AudioFile
from echo.data.prepare.formats.format import SPACES, Format, Placed, RecordingIds, decimal
from echo.data.sources import kaldi
from echo.support.errors import DataError
from echo.support.files import replace_text


class Kaldi(Format):
    absolute = True

    def __init__(self) -> None:
        super().__init__()
        self.ids, self.speakers = Words(self.notes, "id"), Words(self.notes, "speaker")
        self.recordings = RecordingIds()
        self.placed: dict[str, Placed] = {}
        self.utt2spk: dict[str, str] = {}
        self.spk2gender: dict[str, str] = {}

    def add(self, row: Placed) -> None:
        utterance, path = row.utterance, row.recording.path
        if "\n" in path or path != path.strip():
            raise DataError(f"Kaldi cannot hold the name of the recording {path!r}")
        kaldi.check_path(kaldi.Line(f"the recording {path!r}", "", path))
        id = self.ids.of(utterance.id)
        if utterance.speaker is None:
            speaker = id  # Kaldi needs one
        elif (speaker := self.speakers.of(utterance.speaker)) == id:
            self.notes.setdefault("speaker", "one named as its utterance means none in Kaldi")
        gender = str(utterance.extra.get("gender") or "")
        word = SPACES.sub("_", gender)
        if gender and self.spk2gender.setdefault(speaker, word) != gender:
            self.notes.setdefault("gender", "Kaldi has one for each speaker, in one word")
        if not path.lower().endswith(".wav"):
            self.notes.setdefault("audio", "Kaldi's own programs read files of no kind but WAV")
        self.cannot_hold(utterance, ("gender", "recording", "language"))
        # Without the content that an archive's recordings may hold, for all rows are kept.
        self.placed[id] = replace(row, utterance=replace(utterance, audio=AudioFile(Path(path))))
        self.utt2spk[id] = speaker

    def write(self, folder: Path) -> None:
        rows = self.placed
        if all(row.start is None and row.channel is None for row in rows.values()):
            recordings = {id: id for id in rows}  # as Kaldi takes them to be called
        else:
            recordings = {id: self.recordings.of(row) for id, row in rows.items()}
            segments = {id: f"{recordings[id]} {place(row)}" for id, row in rows.items()}
            write_table(folder / kaldi.SEGMENTS, segments)
        paths = {recordings[id]: row.recording.path for id, row in rows.items()}
        write_table(folder / kaldi.RECORDINGS, paths)
        texts = {id: self.one_line(row.utterance.text, "text") for id, row in rows.items()}
        write_table(folder / kaldi.TEXT, texts)
        write_table(folder / kaldi.SPEAKERS, self.utt2spk)
        spoken: dict[str, list[str]] = {}
        for id in sorted(rows, key=str.encode):
            spoken.setdefault(self.utt2spk[id], []).append(id)
        write_table(folder / "spk2utt", {who: " ".join(ids) for who, ids in spoken.items()})
        write_table(
            folder / kaldi.DURATIONS, {id: decimal(row.duration) for id, row in rows.items()}
        )
        seconds = {recordings[id]: decimal(row.recording.seconds) for id, row in rows.items()}
        write_table(folder / "reco2dur", seconds)
        languages = {
            id: SPACES.sub("_", row.utterance.language)
            for id, row in rows.items()
            if row.utterance.language
        }
        for name, table in ((kaldi.LANGUAGES, languages), (kaldi.GENDERS, self.spk2gender)):
            if table:
                write_table(folder / name, table)


def place(row: Placed) -> str:
    """Returns where a segment begins and ends, and its channel if it is one of several."""
    start = row.start or 0.0
    times = f"{decimal(start)} {decimal(start + row.duration)}"
    return times if row.channel is None else f"{times} {row.channel}"


class Words:
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


def write_table(path: Path, lines: dict[str, str]) -> None:
    """Writes lines in the order of the keys' bytes, as Kaldi demands."""
    ordered = sorted(lines.items(), key=lambda line: line[0].encode())
    replace_text(path, "".join(f"{key} {rest}".rstrip() + "\n" for key, rest in ordered))


FORMAT = Kaldi
