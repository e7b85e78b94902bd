"""Corrections of texts, which the page of a data set saves, and how they are applied to one."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from echo.data.audio import clock
from echo.data.prepare.convert import Count
from echo.data.prepare.rows import manifest_line, usable_rows
from echo.data.sources import ReadOptions, Row, read_lines
from echo.data.sources.manifest import parse
from echo.data.sources.row import Record, label_of, seconds_of, text_of
from echo.data.utterance import Utterance
from echo.support.errors import DataError, EchoError
from echo.support.files import whole_file
from echo.support.text import brief

BEFORE = "text_before"  # column of what a corrected text was


class Identity(NamedTuple):
    """What a row is known by, in whatever folder its manifest lies."""

    id: str
    file: str  # the name of its recording, without folders
    start: str  # where the row's part of that begins, in seconds


@dataclass(frozen=True)
class Correction:
    where: str  # "corrections.jsonl:2", for messages
    row: Identity
    before: str
    after: str


def place_of(row: Row, utterance: Utterance) -> dict[str, Any]:
    """Returns what a correction says of a row, so that `apply_corrections` finds it."""
    part = utterance.audio.as_slice()
    path = str(row.record[row.columns.among(row.record).audio])
    return {"id": utterance.id, "audio_filepath": path, "offset": part.start if part else 0.0}


def identity(id: str, audio_filepath: str, offset: float) -> Identity:
    """Returns what the row of a place is known by."""
    return Identity(id, PurePosixPath(audio_filepath).name, clock(offset))


def identity_of(record: Record) -> Identity:
    """Returns what the row of a correction is known by. DataError if it names none."""
    id, path = label_of(record, "id"), label_of(record, "audio_filepath")
    if id is None or path is None:
        raise DataError("names no row: it needs 'id' and 'audio_filepath'")
    return identity(id, path, seconds_of(record, "offset") or 0.0)


@dataclass
class Applied:
    """What became of the rows and of the corrections."""

    read: Count = field(default_factory=Count)
    written: Count = field(default_factory=Count)
    left_out: Count = field(default_factory=Count)
    corrected: Count = field(default_factory=Count)
    refused: list[str] = field(default_factory=list)  # a sentence for each correction


def apply_corrections(corrections: Path, spec: str, out: Path, options: ReadOptions) -> Applied:
    """Writes a new manifest of a data set in which texts are corrected, and `text_before` says what
    they were. It is whole, or not there. Rows that cannot be used are logged and left out.

    Raises:
        EchoError: `out` exists, or cannot be written.
        DataError: a file as a whole cannot be read, no correction can be applied, or recordings are
            in no files, which a manifest could name.
    """
    if out.exists():
        raise EchoError(f"{out}: exists, and nothing is overwritten; choose another name")
    done = Applied()
    wanted = read_corrections(corrections, done.refused)
    missed = dict(wanted)  # those that no row has taken yet
    now: dict[Identity, str] = {}  # texts of rows that are not what was corrected
    folder = out.parent.resolve()
    with (
        whole_file(out) as temporary,
        # As in all manifests, what UTF-8 cannot hold is escaped, which is valid JSON too.
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
    ):
        for found in usable_rows(spec, options):
            done.read.add(found[1].duration if found else None)
            if not found:
                done.left_out.add(None)
                continue
            row, utterance = found
            key = identity(**place_of(row, utterance))
            correction = wanted.get(key)
            if correction and correction.before == utterance.text:
                row = corrected(row, correction)
                missed.pop(key, None)
                done.corrected.add(utterance.duration)
            elif correction:
                now[key] = utterance.text
            file.write(manifest_line(row, utterance, folder))
            done.written.add(utterance.duration)
        done.refused += [unmatched(each, spec, now) for each in missed.values()]
        if not done.corrected.rows:
            raise DataError(f"{corrections}: nothing can be applied; {done.refused[0]}")
    return done


def corrected(row: Row, correction: Correction) -> Row:
    column = row.columns.among(row.record).text
    assert column is not None, "each row must have a text"
    texts = {column: correction.after, BEFORE: correction.before}
    return replace(row, record={**row.record, **texts})


def read_corrections(path: Path, refused: list[str]) -> dict[Identity, Correction]:
    """Returns the corrections of a file by row. Adds a sentence for each that cannot be used, also
    for all of those that are about one row, as none of them is sure to be the right one."""
    found: dict[Identity, list[Correction]] = defaultdict(list)
    for number, line in enumerate(read_lines(path), 1):
        where = f"{path}:{number}"
        try:
            if line.strip():
                record = parse(line)
                key = identity_of(record)
                texts = [text_of({name: record.get(name)}, name) for name in ("before", "after")]
                found[key].append(Correction(where, key, *texts))
        except DataError as error:
            refused.append(f"{where}: {error}")
    for several in found.values():
        if len(several) > 1:
            places = ", ".join(each.where for each in several)
            refused += [f"{each.where}: its row is corrected twice: {places}" for each in several]
    if not found:
        raise DataError(f"{path}: holds no corrections" + "".join(f"; {r}" for r in refused[:1]))
    return {key: several[0] for key, several in found.items() if len(several) == 1}


def unmatched(correction: Correction, spec: str, now: Mapping[Identity, str]) -> str:
    """Returns why a correction was not applied."""
    where, row = correction.where, correction.row
    if (text := now.get(row)) is not None:
        return (
            f"{where}: the text of {brief(row.id)!r} is {brief(text)!r}, not "
            f"{brief(correction.before)!r} as when it was corrected"
        )
    part = f"{brief(row.file)!r} from {row.start} s"
    return f"{where}: {spec} has no row {brief(row.id)!r} with {part}"
