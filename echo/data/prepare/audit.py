"""Finds what the sides of an existing split share: speakers, recordings, sentences and sound."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from echo.data.columns import Utterances
from echo.data.prepare.fingerprint import alike, fingerprint
from echo.data.prepare.rows import usable_rows
from echo.data.prepare.rules import Codes, check_found, rule_codes
from echo.data.prepare.split_report import hours
from echo.data.prepare.workers import done_with
from echo.data.sources import ReadOptions
from echo.data.sources.reader import AS_USUAL
from echo.data.utterance import Utterance
from echo.support.errors import DataError
from echo.support.progress import progress_bar
from echo.support.text import brief, table, visible

EXAMPLES = 5  # shown of each finding
NO_PRINT = np.zeros(0, np.uint32)


@dataclass(frozen=True)
class Shared:
    """What two sides share by a rule."""

    rule: str
    sides: Sequence[str]
    count: int  # of speakers, recordings or sentences that both have; of pairs that sound alike
    milliseconds: Sequence[int]  # of each side's rows that share something
    examples: list[str]


@dataclass
class Audit:
    rows: Utterances
    sides: np.ndarray  # of each row, by number
    names: Sequence[str]  # of the sides
    unusable: int  # rows that cannot be used
    unheard: list[str]  # why recordings cannot be decoded
    shared: list[Shared]

    def milliseconds(self, rows: np.ndarray) -> int:
        return round(1000 * sum(seconds for (seconds,) in self.rows.take(rows).cells("duration")))


def audit_split(
    specs: Sequence[str], by: Sequence[str], options: ReadOptions = AS_USUAL, workers: int = 0
) -> Audit:
    """Compares the sides of a split, each a source, by rules and by how they sound. Without
    workers, this process decodes the recordings.

    Raises:
        ConfigError: no row has what a rule goes by.
        DataError: a source as a whole cannot be read.
    """
    sides: list[int] = []
    unusable = 0

    def all_rows() -> Iterator[Utterance]:
        nonlocal unusable
        for side, spec in enumerate(specs):
            for found in usable_rows(spec, options):
                if found is None:
                    unusable += 1
                    continue
                sides.append(side)
                yield found[1]

    rows = Utterances.of(all_rows())
    rules = {rule: rule_codes(rule, rows) for rule in by}
    check_found(" ".join(specs), "--by", rules, rows)
    audit = Audit(rows, np.array(sides), specs, unusable, [], [])
    for rule, columns in rules.items():
        for codes in columns:
            audit.shared += shared_values(audit, rule, codes)
    listened = done_with(rows, print_of, workers)
    bar = progress_bar(listened, total=len(rows), desc="listening", unit=" rows", leave=False)
    heard = [*bar]
    audit.unheard += [str(each) for each in heard if isinstance(each, DataError)]
    prints = [NO_PRINT if isinstance(each, DataError) else each for each in heard]
    audit.shared += shared_sound(audit, [*alike(prints, sides)])
    return audit


def shared_values(audit: Audit, rule: str, column: Codes) -> Iterator[Shared]:
    """Yields for each two sides the values of a column that both have."""
    codes = column.array
    for pair in combinations(range(len(audit.names)), 2):
        one, other = (np.flatnonzero((audit.sides == side) & (codes >= 0)) for side in pair)
        both = np.intersect1d(codes[one], codes[other])
        if len(both):
            mine = [each[np.isin(codes[each], both)] for each in (one, other)]
            examples = []
            for code in both[:EXAMPLES]:
                first, second = (audit.rows[each[codes[each] == code][0]].where for each in mine)
                examples.append(f"{first} and {second}: {brief(column.name(code))}")
            yield of_rows(audit, rule, pair, len(both), mine, examples)


def shared_sound(audit: Audit, pairs: Sequence[tuple[int, int]]) -> Iterator[Shared]:
    """Yields for each two sides the pairs of rows that sound alike."""
    for sides in combinations(range(len(audit.names)), 2):
        of_sides = (sorted(pair, key=audit.sides.__getitem__) for pair in pairs)
        mine = [pair for pair in of_sides if (*audit.sides[pair],) == sides]
        if mine:
            places = ((audit.rows[i].where, audit.rows[j].where) for i, j in mine[:EXAMPLES])
            rows = [np.unique(column) for column in zip(*mine, strict=True)]
            examples = [f"{one} and {other}" for one, other in places]
            yield of_rows(audit, "sound", sides, len(mine), rows, examples)


def of_rows(
    audit: Audit,
    rule: str,
    sides: tuple[int, ...],
    count: int,
    rows: Sequence[np.ndarray],
    examples: list[str],
) -> Shared:
    names = [audit.names[side] for side in sides]
    return Shared(rule, names, count, [*map(audit.milliseconds, rows)], examples)


def print_of(row: Utterance) -> np.ndarray:
    return fingerprint(row.audio.load())


def format_audit(audit: Audit) -> str:
    """Returns what was found as plain text, for a terminal."""
    lines = []
    for side, name in enumerate(audit.names):
        rows = np.flatnonzero(audit.sides == side)
        length = hours(audit.milliseconds(rows))
        lines.append(f"{visible(name)}: {len(rows)} rows, {length} hours")
    if audit.unusable:
        lines.append(f"{audit.unusable} rows cannot be used")
    lines += [visible(why) for why in audit.unheard]
    if not audit.shared:
        return "\n".join([*lines, "", "nothing is shared"])
    cells = [
        [each.rule, *map(visible, each.sides), str(each.count), *map(hours, each.milliseconds)]
        for each in audit.shared
    ]
    head = ["shared", "by", "and", "how many", "hours of the first", "of the second"]
    lines += ["", table(head, cells, texts=3)]
    for each in audit.shared:
        lines += ["", f"{each.rule}, the first {len(each.examples)} of {each.count}:"]
        lines += [f"  {visible(example)}" for example in each.examples]
    return "\n".join(lines)
