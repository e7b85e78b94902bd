"""What goes wrong: the commonest mistakes, and words that nobody said."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from echo.evaluate.alignment import HIT, INSERTION, Alignment
from echo.evaluate.result import Result

MIN_TIMES = 3  # a loop repeats at least this often,
MIN_WORDS = 6  # and writes at least so many words
MAX_PERIOD = 10  # words
LONG_RUN = 4  # inserted words in a row


class Mistake(NamedTuple):
    """What was said and written; None where nothing was."""

    said: str | None
    written: str | None


Mistakes = Mapping[str, Counter[Mistake]]  # by the letter of their kind


def commonest(result: Result) -> dict[str, Mistakes]:
    """The mistakes of each model, in all of its trainings."""
    return {
        model: mistakes(line.alignments[result.view][i] for line in result.lines for i in runs)
        for model in result.models
        for runs in [result.runs_of(model)]
    }


def mistakes(alignments: Iterator[Alignment]) -> Mistakes:
    counts: dict[str, Counter[Mistake]] = defaultdict(Counter)
    for alignment in alignments:
        for kind, said, written in alignment.pairs():
            if kind != HIT:
                counts[kind][Mistake(said, written)] += 1
    return counts


def hallucinations(result: Result) -> dict[str, dict[str, int]]:
    """What each model writes though nobody says it, over all of its trainings: how many transcripts
    repeat themselves, insert many words in a row, or are of utterances without words."""
    found = {}
    for model in result.models:
        runs, view = result.runs_of(model), result.view
        heard = [line.alignments[view][i] for line in result.lines for i in runs]
        silent = [len(a.hypothesis) for a in heard if not a.reference]
        found[model] = {
            "silent": len(silent),
            "silent_written": sum(words > 0 for words in silent),
            "silent_words": sum(silent),
            "loops": sum(map(is_loop, heard)),
            "long_insertions": sum(INSERTION * LONG_RUN in a.kinds for a in heard if a.reference),
            "transcripts": len(heard),
        }
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
