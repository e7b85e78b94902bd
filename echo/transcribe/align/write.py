"""Writes what became of recordings and their texts, as manifests in a folder."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from echo.data.prepare.count import Count
from echo.data.prepare.filter.filter import KEPT, REJECTED, line
from echo.data.prepare.rows import open_manifest, path_from
from echo.support.errors import DataError
from echo.support.files import new_folder, replace_text, whole_folder
from echo.support.progress import progress_bar
from echo.support.provenance import provenance
from echo.transcribe.align.align import Aligner
from echo.transcribe.align.alignment import Alignment, Row
from echo.transcribe.align.pairs import Pair
from echo.transcribe.align.texts import read_text

logger = logging.getLogger(__name__)

MISSING, UNLABELLED, RECORD = "missing.jsonl", "unlabelled.jsonl", "align.json"


@dataclass
class Counts:
    """What became of all recordings."""

    read: Count = field(default_factory=Count)
    kept: Count = field(default_factory=Count)
    rejected: Count = field(default_factory=Count)
    unlabelled: Count = field(default_factory=Count)
    missing: int = 0  # sentences
    left_out: int = 0  # recordings or texts

    def to_text(self) -> str:
        lines = [
            f"read: {self.read.of('recording')}",
            f"kept: {self.kept}",
            f"rejected: {self.rejected.of('sentence')}",
            f"speech without a text: {self.unlabelled}",
            f"text that nobody says: {self.missing} sentence{'s' * (self.missing != 1)}",
        ]
        if self.left_out:
            lines.append(f"left out: {self.left_out}, which are named above")
        return "\n".join(lines)


def align_pairs(
    pairs: Sequence[Pair],
    problems: Sequence[DataError],
    aligner: Aligner,
    out: Path,
    progress: bool = False,
) -> Counts:
    """Aligns recordings with their texts, and writes a folder with the rows that are kept, those
    that are rejected, text that nobody says, and speech without a text. It is whole, or not there.
    Pairs that cannot be read are logged and counted.

    Raises:
        EchoError: the folder holds something, or cannot be written to.
        DataError: no pair can be read.
    """
    new_folder(out)
    counts = Counts(left_out=len(problems))
    for problem in problems:
        logger.error("%s", problem)
    first: DataError | None = None
    with whole_folder(out) as folder:
        names = (KEPT, REJECTED, MISSING, UNLABELLED)
        files = {name: open_manifest(folder / name) for name in names}
        try:
            for recording, text in progress_bar(pairs, desc="aligning", shown=progress):
                try:
                    found = aligner.align(recording, read_text(text, recording.stem))
                except DataError as error:
                    logger.error("%s", error)
                    first = first or error
                    counts.left_out += 1
                    continue
                path = path_from(out.resolve(), recording)
                for name, row in rows_of(found, path, counts):
                    files[name].write(row)
        finally:
            for file in files.values():
                file.close()
        if not counts.read.rows:
            raise DataError(f"none of {len(pairs)} recordings can be aligned; the first: {first}")
        record = {"settings": asdict(aligner.settings), "counts": asdict(counts)}
        content = json.dumps({**record, **provenance()}, indent=2, ensure_ascii=False)
        replace_text(folder / RECORD, content + "\n")
    return counts


def rows_of(found: Alignment, path: str, counts: Counts) -> Iterator[tuple[str, str]]:
    """Yields the lines of each file, by its name, and counts them."""
    counts.read.add(found.seconds)
    for row in found.rows:
        counts.kept.add(row.end - row.start)
        yield KEPT, line(entry(path, row))
    for each in found.rejected:
        counts.rejected.add(each.end - each.start)
        row = Row.of([each], found.sentences, found.space)
        yield REJECTED, line(entry(path, row), each.reasons)
    for number in found.missing:
        counts.missing += 1
        sentence = found.sentences[number]
        told = {"speaker": sentence.speaker} if sentence.speaker else {}
        place = {"sentence": number, "text": sentence.text}
        yield MISSING, line({"audio_filepath": path, **place, **told})
    for stretch in found.unlabelled:
        counts.unlabelled.add(stretch.end - stretch.start)
        heard = {"heard": stretch.heard} if stretch.heard else {}
        yield UNLABELLED, line({**place_of(path, stretch.start, stretch.end), **heard})


def place_of(path: str, start: float, end: float) -> dict[str, Any]:
    offset = round(start, 3)
    return {"audio_filepath": path, "offset": offset, "duration": round(end - offset, 3)}


def entry(path: str, row: Row) -> dict[str, Any]:
    """Returns a row of a manifest."""
    told = {
        "score": round(row.score, 3) if row.score > float("-inf") else None,
        "speaker": row.speaker,
        "wer": None if row.wer is None else round(row.wer, 4),
        "heard": row.heard,
    }
    return {
        **place_of(path, row.start, row.end),
        "text": row.text,
        **{key: value for key, value in told.items() if value is not None},
    }
