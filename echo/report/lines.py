"""Reads what several runs wrote for the same utterances."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from echo.evaluate.alignment import Alignment, align
from echo.evaluate.result import Line, WerName
from echo.support.errors import DataError
from echo.support.files import read_object

TEXTS: dict[WerName, tuple[str, str]] = {
    "wer": ("reference", "hypothesis"),
    "wer_normalised": ("reference_normalised", "hypothesis_normalised"),
}


def is_by_letters(found: Mapping[str, Any]) -> bool:
    """Whether an evaluation or comparison counted errors as written in letters. Earlier versions
    said so in the normaliser's name alone."""
    return found.get("by_letters", found["normaliser"].endswith("by letters"))


def read_lines(folders: Sequence[Path], by_letters: bool | None = None) -> list[Line]:
    """Returns the utterances that all runs transcribed, in the order of the first.

    Args:
        folders: with `utterances.jsonl`, one of each run.
        by_letters: whether errors as written are counted in letters; by default what the first
            folder's `evaluation.json` says.

    Raises:
        DataError: a file is missing or damaged.
    """
    if by_letters is None:
        by_letters = is_by_letters(read_object(folders[0] / "evaluation.json"))
    read = [read_utterances(folder / "utterances.jsonl") for folder in folders]
    first, *_ = read
    ids = [id for id in first if all(id in run for run in read)]
    views = [
        v for v, keys in TEXTS.items() if all(keys[1] in run[id] for id in ids for run in read)
    ]
    aligned = {view: aligned_texts(view, ids, read, by_letters) for view in views}
    return [
        Line(
            id,
            first[id]["duration"],
            first[id]["speaker"],
            {view: first[id][TEXTS[view][0]] for view in views},
            {view: [run[i] for run in aligned[view]] for view in views},
            [starts(run[id]) for run in read],
        )
        for i, id in enumerate(ids)
    ]


def starts(line: Mapping[str, Any]) -> list[float] | None:
    """When each word of a transcript begins, in seconds; None where the evaluation did not know."""
    return [start for start, _ in line["times"]] if "times" in line else None


def aligned_texts(
    view: WerName, ids: Sequence[str], read: Sequence[Mapping[str, Any]], by_letters: bool
) -> list[list[Alignment]]:
    """One alignment for each run and utterance. Normalised letters have spaces between them."""
    reference, hypothesis = TEXTS[view]
    return [
        align(
            [run[id][reference] for id in ids],
            [run[id][hypothesis] for id in ids],
            by_letters and view == "wer",
        )
        for run in read
    ]


def read_utterances(path: Path) -> dict[str, dict[str, Any]]:
    """The objects of `utterances.jsonl`, by id.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return {line["id"]: line for line in map(json.loads, file)}
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is not what an evaluation writes ({error!r})") from None
