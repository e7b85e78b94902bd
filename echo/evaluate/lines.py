"""Reads what several runs wrote for the same utterances."""

import json
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from echo.evaluate.alignment import align
from echo.evaluate.result import Line, WerName
from echo.support.errors import DataError
from echo.support.files import read_object

TEXTS: dict[WerName, tuple[str, str]] = {
    "wer": ("reference", "hypothesis"),
    "wer_normalised": ("reference_normalised", "hypothesis_normalised"),
}


KINDS: dict[str, Any] = {
    "id": str,
    "duration": int | float,
    "speaker": str | None,
    "reference": str,
    "hypothesis": str,
}


def is_by_letters(found: Mapping[str, Any]) -> bool:
    """Whether an evaluation or comparison counted errors as written in letters. Earlier versions
    said so in the normaliser's name alone."""
    return found.get("by_letters", found["normaliser"].endswith("by letters"))


def read_lines(folders: Sequence[Path], by_letters: bool | None = None) -> list[Line]:
    """Returns the utterances that all runs transcribed, each into a folder, in the order of the
    first. Whether errors as written are counted in letters is by default what the first folder's
    `evaluation.json` says."""
    if by_letters is None:
        by_letters = is_by_letters(read_object(folders[0] / "evaluation.json"))
    runs = [read_utterances(folder) for folder in folders]
    rows = in_all(runs)
    for row in rows:
        check_lines(row)
    aligned = {
        view: [
            # Normalised letters have spaces between them.
            align([r[said] for r in run], [r[heard] for r in run], by_letters and view == "wer")
            for run in zip(*rows, strict=True)
        ]
        for view, (said, heard) in TEXTS.items()
        if all(heard in line for row in rows for line in row)
    }
    return [
        Line(
            row[0]["id"],
            row[0]["duration"],
            row[0]["speaker"],
            {view: row[0][TEXTS[view][0]] for view in aligned},
            {view: [run[i] for run in alignments] for view, alignments in aligned.items()},
            # When each word of a transcript begins, where the evaluation knew.
            [[start for start, _ in r["times"]] if "times" in r else None for r in row],
            set=row[0].get("set", ""),
        )
        for i, row in enumerate(rows)
    ]


def in_all(runs: Sequence[Mapping[str, dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    """What all runs wrote for each utterance that every one of them has."""
    return [[run[id] for run in runs] for id in runs[0] if all(id in run for run in runs)]


def read_utterances(folder: Path) -> dict[str, dict[str, Any]]:
    """The objects of a folder's `utterances.jsonl`, by id."""
    path = folder / "utterances.jsonl"
    try:
        with path.open(encoding="utf-8") as file:
            return {line["id"]: line for line in map(json.loads, file)}
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is not what an evaluation writes ({error!r})") from None


def check_lines(lines: Sequence[Mapping[str, Any]]) -> None:
    """Raises TypeError where one of these objects has something else than an evaluation writes."""
    for line in lines:
        for key, kind in KINDS.items():
            if not isinstance(line[key], kind):
                raise TypeError(f"{key} of utterance {line['id']} is {reprlib.repr(line[key])}")


def word_errors(line: Mapping[str, Any]) -> int:
    """The word errors as written of one of these objects."""
    return sum(line["wer"][key] for key in ("substitutions", "deletions", "insertions"))
