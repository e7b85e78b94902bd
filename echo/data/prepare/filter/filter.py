"""Keeps the rows of a data set that a model can learn from, and says why it rejects the others."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from echo.data.audio import channel_name
from echo.data.prepare.filter.measures import Measured, measure_rows
from echo.data.prepare.filter.rules import (
    FilterSettings,
    Hear,
    Reason,
    check_model_settings,
    judge_rows,
)
from echo.data.prepare.rows import file_path, open_manifest, path_from
from echo.data.prepare.shard import encode, origin
from echo.data.sources import ReadOptions, scan_source
from echo.data.sources.row import CHANNEL
from echo.data.utterance import Utterance
from echo.support.errors import DataError, EchoError
from echo.support.files import new_folder, read_object, replace_text, whole_file, writing
from echo.support.lock import locked
from echo.support.provenance import provenance
from echo.support.text import table, visible

KEPT, REJECTED = "kept.jsonl", "rejected.jsonl"
MEASURES = "measures.jsonl"
RECORD = "filter.json"  # what a folder was made of, and with which thresholds
RECORDINGS = "audio"  # folder of those that are in no file of their own
UNUSABLE = "unusable"


@dataclass(frozen=True)
class Filtered:
    """What was kept and rejected of a data set."""

    spec: str
    rows: Sequence[Measured | DataError]
    reasons: Mapping[int, Sequence[Reason]]  # by the numbers of the rows that are rejected

    @property
    def unusable(self) -> list[DataError]:
        return [row for row in self.rows if isinstance(row, DataError)]

    def hours(self, numbers: Sequence[int]) -> float:
        measured = (self.rows[i] for i in numbers)
        return sum(row.sound.seconds for row in measured if isinstance(row, Measured)) / 3600

    def kept(self) -> list[int]:
        return [
            i
            for i, row in enumerate(self.rows)
            if isinstance(row, Measured) and i not in self.reasons
        ]

    def by_rule(self) -> dict[str, dict[str, float]]:
        """Returns for each rule the rows and hours that it rejects, and the hours that no other
        rule does."""
        found: dict[str, list[int]] = defaultdict(list)
        alone: dict[str, list[int]] = defaultdict(list)
        for i, reasons in self.reasons.items():
            rules = dict.fromkeys(reason.rule for reason in reasons)
            for rule in rules:
                found[rule].append(i)
                alone[rule] += [i] if len(rules) == 1 else []
        return {
            rule: {
                "rows": len(rows),
                "hours": self.hours(rows),
                "hours_alone": self.hours(alone[rule]),
            }
            for rule, rows in found.items()
        }

    def to_dict(self) -> dict[str, Any]:
        kept = self.kept()
        return {
            "rows": len(self.rows),
            "unusable": len(self.unusable),
            "hours": self.hours(range(len(self.rows))),
            "kept": {"rows": len(kept), "hours": self.hours(kept)},
            "rejected": self.by_rule(),
        }

    def to_text(self) -> str:
        """Returns the hours that each rule rejects, in a table, and those that are kept."""
        kept, every = self.kept(), range(len(self.rows))
        lines = [f"{visible(self.spec)}: {len(self.rows)} rows, {self.hours(every):.2f} hours"]
        if rules := self.by_rule():
            rows = [
                [name, str(of["rows"]), f"{of['hours']:.2f}", f"{of['hours_alone']:.2f}"]
                for name, of in rules.items()
            ]
            lines += ["", table(["rejected by", "rows", "hours", "by it alone"], rows), ""]
        if bad := self.unusable:
            lines += [f"{len(bad)} rows cannot be used; the first: {visible(str(bad[0]))}"]
        lines += [f"kept: {len(kept)} rows, {self.hours(kept):.2f} hours"]
        return "\n".join(lines)


def filter_source(
    spec: str,
    options: ReadOptions,
    settings: FilterSettings,
    out: Path | None,
    workers: int = 0,
    hear: Hear | None = None,
    dry_run: bool = False,
    progress: bool = False,
) -> Filtered:
    """Measures and judges every row of a source. A folder gets the rows that are kept and those
    that are rejected, unless it is a dry run, and their measures, by which the same data set is
    judged again in seconds. A result that is there already is never written over.

    Args:
        hear: what a model hears in the rows that the rules without one keep.

    Raises:
        EchoError: the folder holds a result or something else, or cannot be written to.
        DataError: the source as a whole cannot be read, or none of its rows can be used.
        ConfigError: a threshold that was given has no effect.
    """
    check_model_settings(settings, hear is not None)
    if out is not None:
        check_folder(out, spec, dry_run)
    rows = [*scan_source(spec, options)]
    if out is None:
        return judge_source(spec, rows, settings, None, workers, hear, progress)
    with locked(out):
        if not (out / RECORD).exists():
            replace_text(out / RECORD, json.dumps({"data": spec}) + "\n")
        found = judge_source(spec, rows, settings, out / MEASURES, workers, hear, progress)
        if not dry_run:
            record = {"data": spec, "settings": asdict(settings), **found.to_dict()}
            replace_text(out / RECORD, json.dumps({**record, **provenance()}, indent=2) + "\n")
            write(found, out)
    return found


def origins(spec: str) -> set[str]:
    """Returns where a data set lies, and if a filter kept it of another one, where that lies."""
    path = Path(spec)
    found = {place_of(spec)}
    if path.name == KEPT and (path.parent / RECORD).exists():
        found.add(place_of(str(read_object(path.parent / RECORD).get("data"))))
    return found


def place_of(spec: str) -> str:
    return str(Path(spec).resolve()) if Path(spec).exists() else spec


def check_folder(out: Path, spec: str, dry_run: bool) -> None:
    """Raises EchoError unless a folder is new, empty, or has measures of the same data set, and no
    result that would be written over."""
    if not (out / RECORD).exists():
        new_folder(out)
        return
    if place_of(of := str(read_object(out / RECORD).get("data"))) != place_of(spec):
        raise EchoError(f"{out}: holds the measures of {of}; choose another folder for {spec}")
    if not dry_run and (
        result := next((out / n for n in (KEPT, REJECTED) if (out / n).exists()), None)
    ):
        raise EchoError(
            f"{result}: is the result of an earlier filter, which is not written over: move it "
            "away to filter again by the measures beside it, or choose another folder"
        )


def judge_source(
    spec: str,
    scanned: Sequence[Utterance | DataError],
    settings: FilterSettings,
    measures: Path | None,
    workers: int,
    hear: Hear | None,
    progress: bool,
) -> Filtered:
    rows = measure_rows(scanned, measures, workers, progress)
    usable = {i: row for i, row in enumerate(rows) if isinstance(row, Measured)}
    if not usable:
        raise DataError(f"{spec}: none of its {len(rows)} rows can be used; the first is {rows[0]}")
    return Filtered(spec, rows, judge_rows(usable, settings, hear))


def write(found: Filtered, out: Path) -> None:
    """Writes the manifests of what is kept and of what is rejected."""
    real = out.resolve()
    with (
        whole_file(out / KEPT) as kept,
        whole_file(out / REJECTED) as rejected,
        open_manifest(kept) as good,
        open_manifest(rejected) as bad,
    ):
        for i, row in enumerate(found.rows):
            if isinstance(row, DataError):
                reasons = [Reason(UNUSABLE, str(row), str(row))]
                bad.write(line({}, reasons))
            elif i in found.reasons:
                bad.write(line(record_of(row, real), found.reasons[i]))
            else:
                record = record_of(row, real)
                if file_path(row.utterance.audio.fetch()) is None:
                    record["audio_filepath"] = hold(row.utterance, out)
                good.write(line(record))


def line(record: Mapping[str, Any], reasons: Sequence[Reason] = ()) -> str:
    why = {"reasons": [reason._asdict() for reason in reasons]} if reasons else {}
    return json.dumps({**record, **why}, ensure_ascii=False, default=str) + "\n"


def record_of(row: Measured, real: Path) -> dict[str, Any]:
    """Returns a row of a manifest in a folder (resolved). A recording that is in no file has no
    path."""
    utterance = row.utterance
    audio = utterance.audio.fetch()
    part, channel, path = audio.as_slice(), audio.only_channel(), file_path(audio)
    place: dict[str, Any] = origin(audio)  # of what `hold` cuts out
    if path is not None:
        place = {"audio_filepath": path_from(real, path)}
        place |= {"offset": part.start} if part else {}
        place |= {CHANNEL: channel_name(channel)} if channel is not None else {}
    told = {
        **place,
        "duration": utterance.duration if part else row.sound.seconds,
        "text": utterance.text,
        "id": utterance.id,
        "speaker": utterance.speaker,
        "language": utterance.language,
        "task": utterance.task,
    }
    known = {key: value for key, value in told.items() if value is not None}
    # A further column may be called as one of these, where another was named as that.
    return {**known, **utterance.extra, **known}


def hold(utterance: Utterance, out: Path) -> str:
    """Writes a recording that is in no file of its own as FLAC; returns its path in the folder."""
    content = encode(utterance, "flac").content
    # Named by its content, as rows may have the same id.
    path = out / RECORDINGS / f"{blake2b(content, digest_size=16).hexdigest()}.flac"
    with writing(path):
        path.parent.mkdir(exist_ok=True)
    with whole_file(path) as temporary:
        temporary.write_bytes(content)
    return f"{RECORDINGS}/{path.name}"
