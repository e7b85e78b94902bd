"""What goes wrong: the commonest mistakes, and words that nobody said."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from echo.evaluate.alignment import DELETION, INSERTION, SUBSTITUTION, Alignment
from echo.evaluate.result import Result

SHOWN = 12  # of each kind
MIN_TIMES = 3  # a loop repeats at least this often,
MIN_WORDS = 6  # and writes at least so many words
MAX_PERIOD = 10  # words
LONG_RUN = 4  # inserted words in a row


class Mistake(NamedTuple):
    """What was said and written; None where nothing was."""

    said: str | None
    written: str | None


@dataclass(frozen=True)
class Mistakes:
    """A model's commonest mistakes, each with how often it was made in all of its trainings."""

    confusions: list[tuple[Mistake, int]]
    insertions: list[tuple[Mistake, int]]
    deletions: list[tuple[Mistake, int]]
    totals: Mapping[str, int]  # by the letter of the kind


def commonest(result: Result) -> dict[str, Mistakes]:
    """The commonest mistakes of each model."""
    return {
        model: mistakes(line.alignments[result.view][i] for line in result.lines for i in runs)
        for model in result.models
        for runs in [result.runs_of(model)]
    }


def mistakes(alignments: Iterator[Alignment]) -> Mistakes:
    counts: dict[str, Counter[Mistake]] = defaultdict(Counter)
    for alignment in alignments:
        for kind, said, written in alignment.pairs():
            counts[kind][Mistake(said, written)] += 1
    kinds = (SUBSTITUTION, INSERTION, DELETION)
    confusions, insertions, deletions = (counts[kind].most_common(SHOWN) for kind in kinds)
    totals = {kind: counts[kind].total() for kind in kinds}
    return Mistakes(confusions, insertions, deletions, totals)


@dataclass(frozen=True)
class Hallucination:
    """Words that a model writes though nobody says them, over all of its trainings."""

    silent: int  # transcripts of utterances without words
    silent_written: int  # those of them with words
    silent_words: int  # the words in these
    loops: int  # transcripts that repeat themselves
    long_insertions: int  # transcripts with many inserted words in a row
    transcripts: int


def hallucinations(result: Result) -> dict[str, Hallucination]:
    """What each model writes though nobody says it."""
    found = {}
    for model in result.models:
        runs, view = result.runs_of(model), result.view
        heard = [line.alignments[view][i] for line in result.lines for i in runs]
        silent = [len(a.hypothesis) for a in heard if not a.reference]
        found[model] = Hallucination(
            silent=len(silent),
            silent_written=sum(words > 0 for words in silent),
            silent_words=sum(silent),
            loops=sum(map(is_loop, heard)),
            long_insertions=sum(INSERTION * LONG_RUN in a.kinds for a in heard if a.reference),
            transcripts=len(heard),
        )
    return found


def is_loop(alignment: Alignment) -> bool:
    """Whether a transcript repeats some words over and over, and more often than was said."""
    return longest_loop(alignment.hypothesis) > longest_loop(alignment.reference)


def longest_loop(words: Sequence[str]) -> int:
    """How many words the longest loop has: up to 10 words that come 3 times in a row or more, 6
    words in all. 0 without a loop."""
    longest = 0
    for period in range(1, MAX_PERIOD + 1):
        same = 0  # words in a row that equal the one a period earlier
        for i in range(period, len(words)):
            same = same + 1 if words[i] == words[i - period] else 0
            repeated = same + period
            if same and repeated >= max(MIN_WORDS, MIN_TIMES * period):
                longest = max(longest, repeated)
    return longest
