"""Labels of shards: each shard has a file of rows, and a seal of what they were made with.

A shard is done when its seal is there. So processes need not know of each other, and what was
stopped goes on with the shards that have none.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from echo.checkpoints.checksums import digest
from echo.data.prepare.rows import file_path
from echo.data.sources.member import Member
from echo.data.sources.row import Row
from echo.data.utterance import Utterance
from echo.support.errors import DataError, EchoError
from echo.support.files import flush, read_object, whole_file, writable_folder

MANIFEST = "manifest.jsonl"  # all labels, once every shard has its own
LABELS, SEAL = "labels-{:05d}.jsonl", "labels-{:05d}.seal.json"
OWN = re.compile(r"labels-\d{5,}(\.seal\.json|\.jsonl)")


@dataclass(frozen=True)
class Seal:
    """What the labels of a shard were made of, and what came of it."""

    labels: str  # SHA-256 of the file of labels
    rows: str  # SHA-256 of the rows and of how long their files are
    made_with: Mapping[str, Any]  # models by the SHA-256 of their files, and settings
    labelled: int  # rows in the file of labels
    audio_seconds: float  # of recordings that were heard
    seconds: float  # that it took
    left_out: Sequence[str]  # why rows have no label


def labels_file(folder: Path, number: int) -> Path:
    return folder / LABELS.format(number)


def seal_file(folder: Path, number: int) -> Path:
    return folder / SEAL.format(number)


def check_labels_folder(folder: Path, made_with: Mapping[str, Any]) -> None:
    """Makes a folder for labels. Raises EchoError if it holds something else, or labels that were
    made with other models or settings."""
    writable_folder(folder)
    # Hidden files are being written, or are another process's test whether it can write here.
    found = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    own = [path for path in found if OWN.fullmatch(path.name)]
    if found and not own:
        raise EchoError(f"{folder}: holds something else ({found[0].name}); choose another folder")
    for path in own:
        if path.name.endswith(".seal.json"):
            read_made_with(path, made_with)


def read_made_with(path: Path, made_with: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a seal says. EchoError unless its labels were made with the same."""
    content = read_object(path)
    earlier = content.get("made_with")
    if not isinstance(earlier, dict):
        raise DataError(f"{path}: does not say how labels were made: delete it")
    if differ := [key for key in made_with if earlier.get(key) != made_with[key]]:
        raise EchoError(
            f"{path}: the labels were made with another {' and '.join(differ)}; choose another "
            "folder, or give what was given then"
        )
    return content


def read_seal(folder: Path, number: int, rows: str, made_with: Mapping[str, Any]) -> Seal | None:
    """Returns the seal of a shard whose labels are there and whole; None if it is to be labelled.
    Raises EchoError if its rows were others then."""
    path = seal_file(folder, number)
    if not path.exists():
        return None
    try:
        seal = Seal(**read_made_with(path, made_with))
    except TypeError:
        raise DataError(f"{path}: is not a seal of labels: delete it") from None
    if not is_whole(labels_file(folder, number), seal.labels):
        return None
    if seal.rows != rows:
        raise EchoError(
            f"{path}: the rows of this shard, or their recordings, have changed since it was "
            "labelled; delete this file to label it again"
        )
    return seal


def is_whole(labels: Path, sha256: str | None) -> bool:
    return labels.is_file() and digest(labels) == sha256


def digest_of_rows(rows: Iterable[tuple[Row, Utterance] | DataError]) -> str:
    """Returns a SHA-256 of what rows say and of the sizes of their files: no recording is read."""
    found = hashlib.sha256()
    for each in rows:
        told: Any = None
        if not isinstance(each, DataError):
            row, utterance = each
            path = file_path(utterance.audio)
            size = path.stat().st_size if path else None
            told = row.record, size, row.columns.among(row.record)
        found.update(json.dumps(told, default=without_folder).encode() + b"\n")
    return found.hexdigest()


def without_folder(value: object) -> Any:
    """Returns what JSON holds of a recording in a shard, wherever the shard lies."""
    return value.record() if isinstance(value, Member) else str(value)


def write_sealed(folder: Path, number: int, lines: Iterable[str], **about: Any) -> Seal:
    """Writes the labels of a shard, and once they are on the disk, their seal."""
    path = labels_file(folder, number)
    with whole_file(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
        flush(temporary)
        seal = Seal(labels=digest(temporary), **about)
    with whole_file(seal_file(folder, number)) as temporary:
        # In ASCII, since an error may name a file whose name is no Unicode.
        temporary.write_text(json.dumps(asdict(seal), indent=1) + "\n")
        flush(temporary)
    flush(folder)
    return seal


def join(folder: Path, count: int) -> bool:
    """Writes the manifest of all labels if every shard is sealed and whole, and returns whether.
    Several processes may do it: they write the same."""
    seals = [seal_file(folder, number) for number in range(count)]
    labels = [labels_file(folder, number) for number in range(count)]
    if not all(seal.exists() for seal in seals):
        return False
    for path, seal in zip(labels, seals, strict=True):  # others' may have been damaged since
        if not is_whole(path, read_object(seal).get("labels")):
            return False
    with whole_file(folder / MANIFEST) as temporary, temporary.open("wb") as joined:
        for path in labels:
            with path.open("rb") as file:
                shutil.copyfileobj(file, joined)
    return True
