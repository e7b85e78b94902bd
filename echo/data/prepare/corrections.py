"""Corrections of texts, which the page of a data set saves, and how they are applied to one."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from echo.data.audio import channel_name, clock
from echo.data.prepare.count import Count
from echo.data.prepare.rows import manifest_line, usable_rows
from echo.data.sources import ReadOptions, Row
from echo.data.sources.manifest import objects
from echo.data.sources.row import CHANNEL, Record, label_of, seconds_of, text_of
from echo.data.utterance import Utterance
from echo.support.errors import DataError, EchoError, tried
from echo.support.files import replace_text
from echo.support.text import brief

BEFORE = "text_before"  # column of what a corrected text was


class Identity(NamedTuple):
    """What a row is known by, in whatever folder its manifest lies."""

    id: str
    file: str  # the name of its recording, without folders
    start: str  # where the row's part of that begins, in seconds
    channel: str | None  # the only one that it means


@dataclass(frozen=True)
class Correction:
    where: str  # "corrections.jsonl:2", for messages
    row: Identity
    before: str
    after: str


def place_of(row: Row, utterance: Utterance) -> dict[str, Any]:
    """Returns what a correction says of a row, so that `apply_corrections` finds it."""
    part, channel = utterance.audio.as_slice(), utterance.audio.only_channel()
    path = str(row.record[row.columns.among(row.record).audio])
    return {
        "id": utterance.id,
        "audio_filepath": path,
        "offset": part.start if part else 0.0,
        **({CHANNEL: channel_name(channel)} if channel is not None else {}),
    }


def identity(id: str, audio_filepath: str, offset: float, channel: str | None = None) -> Identity:
    """Returns what the row of a place is known by."""
    return Identity(id, PurePosixPath(audio_filepath).name, clock(offset), channel)


def correction_of(where: str, record: Record) -> Correction:
    """Returns the correction that a line holds. DataError if it names no row, or no texts."""
    id, path = label_of(record, "id"), label_of(record, "audio_filepath")
    if id is None or path is None:
        raise DataError("names no row: it needs 'id' and 'audio_filepath'")
    start = seconds_of(record, "offset") or 0.0
    row = identity(id, path, start, label_of(record, CHANNEL))
    before, after = (text_of({name: record.get(name)}, name) for name in ("before", "after"))
    return Correction(where, row, before, after)


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
    named: dict[Identity, list[tuple[int, Row, Utterance]]] = {key: [] for key in wanted}
    lines: list[str] = []
    folder = out.parent.resolve()
    for found in usable_rows(spec, options):
        done.read.add(found[1].duration if found else None)
        if not found:
            done.left_out.add(None)
            continue
        key = identity(**place_of(*found))
        if key in named:
            named[key].append((len(lines), *found))
        lines.append(manifest_line(*found, folder))
        done.written.add(found[1].duration)
    for key, correction in wanted.items():
        fitting = [each for each in named[key] if each[-1].text == correction.before]
        if len(fitting) == 1:
            number, row, utterance = fitting[0]
            lines[number] = manifest_line(corrected(row, correction), utterance, folder)
            done.corrected.add(utterance.duration)
        else:
            about = [utterance for *_, utterance in fitting or named[key]]
            done.refused.append(refusal(correction, spec, about))
    if not done.corrected.rows:
        raise DataError(f"{corrections}: nothing can be applied; {done.refused[0]}")
    replace_text(out, "".join(lines))
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
    for where, record in objects(path):
        read = (
            record if isinstance(record, DataError) else tried(where, correction_of, where, record)
        )
        if isinstance(read, DataError):
            refused.append(str(read))
        else:
            found[read.row].append(read)
    for several in found.values():
        if len(several) > 1:
            places = ", ".join(each.where for each in several)
            refused += [f"{each.where}: its row is corrected twice: {places}" for each in several]
    if not found:
        raise DataError(f"{path}: holds no corrections" + "".join(f"; {r}" for r in refused[:1]))
    return {key: several[0] for key, several in found.items() if len(several) == 1}


def refusal(correction: Correction, spec: str, named: Sequence[Utterance]) -> str:
    """Returns why a correction was not applied, by the rows that bear its name."""
    where, row = correction.where, correction.row
    if named and named[0].text == correction.before:
        places = ", ".join(utterance.where for utterance in named[:3])
        return f"{where}: fits {len(named)} rows ({places}): give each an id of its own"
    if named:
        return (
            f"{where}: the text of {brief(row.id)!r} is {brief(named[0].text)!r}, not "
            f"{brief(correction.before)!r} as when it was corrected"
        )
    part = f"{brief(row.file)!r} from {row.start} s"
    part += f", channel {row.channel}" if row.channel else ""
    return f"{where}: {spec} has no row {brief(row.id)!r} with {part}"
