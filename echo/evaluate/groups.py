"""Groups utterances by speaker, by duration, or by any other column of their source."""

from bisect import bisect
from collections import defaultdict
from collections.abc import Sequence

from echo.data.utterance import Utterance
from echo.evaluate.result import Line
from echo.support.errors import DataError
from echo.support.text import natural

EDGES = (2, 5, 10, 15, 20, 30)  # seconds: the boundaries between bands of duration
MISSING = "(none)"
DATA_SET = "data set"  # a column where several are measured


def group(utterances: Sequence[Utterance | Line], column: str) -> dict[str, list[int]]:
    """Groups the indices of utterances by their value in a column, in natural order of the values:
    "speaker", "duration" (in bands of seconds), or a key of `Utterance.extra`."""
    groups = defaultdict(list)
    for index, utterance in enumerate(utterances):
        groups[label(utterance, column)].append(index)
    return {name: groups[name] for name in sorted(groups, key=natural)}


def check_column(utterances: Sequence[Utterance], column: str) -> None:
    """Checks that some utterance has the column."""
    speaker = ["speaker"] if any(utterance.speaker for utterance in utterances) else []
    further = [key for utterance in utterances for key in utterance.extra]
    found = dict.fromkeys(["duration", *speaker, *further])
    if column not in found:
        raise DataError(f"no column {column!r} to group by: there is {', '.join(found)}")


def label(utterance: Utterance | Line, column: str) -> str:
    if column == "duration":
        return band(utterance.duration)
    if column == DATA_SET:
        return utterance.set
    value = utterance.speaker if column == "speaker" else utterance.extra.get(column)
    return MISSING if value is None or value == "" else str(value)


def band(seconds: float) -> str:
    number = bisect(EDGES, seconds)
    low = EDGES[number - 1] if number else 0
    return f"{low} to {EDGES[number]} s" if number < len(EDGES) else f"{low} s and longer"
