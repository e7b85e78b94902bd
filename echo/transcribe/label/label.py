"""Labels a data set shard by shard; see `echo.transcribe.label.shards`."""

import json
import logging
import re
import time
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from echo.checkpoints.checksums import digest
from echo.checkpoints.load import load_model, model_folder
from echo.data.prepare.rows import manifest_record
from echo.data.sources import ReadOptions, Row, scan_shards
from echo.data.sources.read import MAX_WARNINGS
from echo.data.sources.row import checked
from echo.data.utterance import Utterance
from echo.support.errors import ConfigError, DataError
from echo.support.launch import number as number_of
from echo.support.launch import process_count
from echo.support.text import brief
from echo.transcribe.label.labels import COLUMNS, Entry, Labeller
from echo.transcribe.label.shards import (
    Seal,
    check_labels_folder,
    digest_of_rows,
    join,
    read_seal,
    write_sealed,
)
from echo.transcribe.transcribe import TranscribeSettings

logger = logging.getLogger(__name__)

PART = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


@dataclass(frozen=True)
class Part:
    """The share of one process: every `count`-th shard, from `index` on."""

    index: int = 0
    count: int = 1

    @classmethod
    def read(cls, text: str) -> "Part":
        """Reads "3/40", and divides it among the processes that a launcher started. Raises
        ConfigError if it is no part."""
        found = PART.fullmatch(text)
        number, count = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 0 < number <= count:
            raise ConfigError(f"--part is {brief(text)!r}, but must be like 3/40: 1/40 to 40/40")
        world, rank = process_count(), number_of("RANK", 0)
        return cls((number - 1) * world + rank, count * world)


@dataclass
class Labels:
    """What a process labelled."""

    shards: int = 0  # of the whole source
    sealed: list[Seal] = field(default_factory=list)  # now
    skipped: list[Seal] = field(default_factory=list)  # sealed before
    complete: bool = False  # whether the manifest of all labels is written

    @property
    def left_out(self) -> int:
        return sum(len(seal.left_out) for seal in (*self.sealed, *self.skipped))

    def to_text(self) -> str:
        new, old = self.sealed, self.skipped
        audio, seconds = sum(seal.audio_seconds for seal in new), sum(seal.seconds for seal in new)
        speed = f", {audio / seconds:.0f} times real time" if seconds else ""
        rows = sum(seal.labelled for seal in new)
        lines = [
            f"labelled {rows} rows, {audio / 3600:.2f} hours, in {len(new)} of {self.shards} "
            f"shards{speed}"
        ]
        if old:
            lines += [f"{len(old)} shards were labelled before"]
        if self.left_out:
            lines += [f"{self.left_out} rows cannot be used"]
        return "\n".join(lines)


def label_source(
    spec: str,
    out: Path,
    options: ReadOptions,
    model: str,
    second: str | None,
    which: str,
    settings: TranscribeSettings,
    rows: int,
    part: Part,
    progress: bool = False,
) -> Labels:
    """Labels the shards of a part of a source, but for those that are sealed, and joins all labels
    once the last shard is sealed.

    Args:
        options: with `columns.needs_text` false.
        rows: in a shard, where the source has no shards of its own.

    Raises:
        EchoError: the folder holds something else, or labels of other models, settings or rows.
        DataError: the source as a whole cannot be read, or a manifest cannot name its recordings.
        ConfigError: both models are the same, or a model cannot do what is asked of it.
    """
    names = {"model": model, "second": second}
    digests = {key: name and digest_of_model(name, which) for key, name in names.items()}
    if digests["model"] == digests["second"]:
        raise ConfigError("--second is the same model as --model, which always agrees with itself")
    asked = {**asdict(settings), "rows": rows, **asdict(options.columns)}
    made_with = {**digests, **json.loads(json.dumps(asked))}
    check_labels_folder(out, made_with)
    if torch.cuda.is_available():
        torch.cuda.set_device(number_of("LOCAL_RANK", 0) % torch.cuda.device_count())
    real = out.resolve()
    found = Labels()
    labeller: Labeller | None = None
    for number, shard in enumerate(scan_shards(spec, options, rows)):
        found.shards += 1
        if number % part.count != part.index:
            continue
        entries = [usable(row) for row in shard]
        told = digest_of_rows(entries)
        if seal := read_seal(out, number, told, made_with):
            found.skipped.append(seal)
            continue
        good = [
            Entry(row, utterance, new_record(row, utterance, real))
            for row, utterance in (each for each in entries if not isinstance(each, DataError))
        ]
        if labeller is None:
            loaded = load_model(model, which)
            other = load_model(second, which) if second else None
            labeller = Labeller(loaded, other, settings)
        started = time.perf_counter()
        torch.manual_seed(number)  # what is drawn at temperatures depends on the shard alone
        problems = [each for each in entries if isinstance(each, DataError)]
        lines = []
        for record in labeller.label(good, progress):
            if isinstance(record, DataError):
                problems.append(record)
            else:
                lines.append(json.dumps(record, ensure_ascii=False, default=str) + "\n")
        for problem in problems[: max(0, MAX_WARNINGS - found.left_out)]:
            logger.warning("left out: %s", problem)
        seal = write_sealed(
            out,
            number,
            lines,
            rows=told,
            made_with=made_with,
            labelled=len(lines),
            audio_seconds=sum(entry.utterance.duration for entry in good),
            seconds=time.perf_counter() - started,
            left_out=[*map(str, problems)],
        )
        found.sealed.append(seal)
    found.complete = join(out, found.shards)
    return found


def usable(row: Row | DataError) -> tuple[Row, Utterance] | DataError:
    """Returns a row with what was read of it, or why it cannot be used."""
    if isinstance(row, DataError):
        return row
    found = checked(row)
    return found if isinstance(found, DataError) else (row, found)


def new_record(row: Row, utterance: Utterance, folder: Path) -> dict[str, Any]:
    """Returns the row of a manifest that gets a label. DataError if it has such a column, which
    would be overwritten."""
    if taken := next((name for name in COLUMNS if name in row.record), None):
        raise DataError(f"{row.where}: has a column {taken!r} already: rename it, or leave it out")
    return manifest_record(row, utterance, folder)


def digest_of_model(model: str, which: str) -> str:
    """Returns a SHA-256 of a model's files."""
    files = sorted(path for path in model_folder(model, which).iterdir() if path.is_file())
    return sha256(repr([(path.name, digest(path)) for path in files]).encode()).hexdigest()
