"""Splits a data set into train, dev and test, so that no rows that share a speaker, a recording or a
sentence are on two sides."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path

import numpy as np

from echo.data.prepare.groups import choose, components, totals
from echo.data.prepare.keep import FREE, SIDES, Earlier, digest_of, follow, side_file
from echo.data.prepare.rows import manifest_line, usable_rows
from echo.data.prepare.rules import Codes, check_found, column_codes, rule_codes
from echo.data.sources import ReadOptions
from echo.data.sources.reader import AS_USUAL
from echo.data.utterance import Utterance
from echo.support.errors import ConfigError, DataError
from echo.support.files import new_folder, whole_folder
from echo.support.text import brief, table, visible

RULES = ("speaker", "recording", "text")
LEFT_OUT_FILE = "left_out"
OFF = 0.01  # the share by which a side may differ from what was asked without a word
TOO_LITTLE = 0.5  # of what was asked: a side that nobody wants
HOUR = 3_600_000  # milliseconds
MAX_STRATA = 20  # shown


@dataclass(frozen=True)
class Size:
    """What a side is to have."""

    number: float
    unit: str  # "%" of all hours, or "h"

    def milliseconds(self, whole: int) -> int:
        return round(self.number * (whole / 100 if self.unit == "%" else HOUR))


def read_size(text: str, option: str) -> Size:
    """Parses "5%" or "2h". ConfigError if it is neither."""
    try:
        size = Size(float(text[:-1]), text[-1:])
    except ValueError:
        size = Size(0, "")
    if 0 < size.number < {"%": 100, "h": 1e6}.get(size.unit, 0):
        return size
    raise ConfigError(f"{option}: {brief(text)!r} must be a share such as 5%, or hours such as 2h")


@dataclass
class SplitRows:
    """What is kept of each row, in columns."""

    rules: dict[str, tuple[Codes, ...]]
    strata: dict[str, tuple[Codes, ...]]
    speakers: Codes = field(default_factory=lambda: column_codes("speaker"))
    lines: list[str] = field(default_factory=list)  # of a manifest
    digests: list[int] = field(default_factory=list)
    milliseconds: list[int] = field(default_factory=list)
    sides: list[int] = field(default_factory=list)
    columns: set[str] = field(default_factory=set)  # the further ones that rows have

    def add(self, row: Utterance, line: str = "", side: int = FREE, counts: bool = True) -> None:
        """Adds a row, which may count for nothing but what others share with it."""
        for codes in (*self.rules.values(), *self.strata.values(), (self.speakers,)):
            for each in codes:
                each.add(row)
        self.lines.append(line)
        self.digests.append(digest_of(row))
        self.milliseconds.append(round(1000 * row.duration) if counts else 0)
        self.sides.append(side)
        self.columns.update(row.extra)

    def keys(self, rules: Iterable[str]) -> list[np.ndarray]:
        return [codes.array for rule in rules for codes in self.rules[rule]]

    def stratum(self) -> tuple[np.ndarray, list[str]]:
        """Returns the stratum of each row, which is a value of each of their columns, and the names
        of all."""
        columns = [codes for (codes,) in self.strata.values()]
        if not columns:
            return np.zeros(len(self.lines), dtype=np.int64), [""]
        values, found = np.unique(
            np.stack([codes.array for codes in columns], 1), axis=0, return_inverse=True
        )
        names = [[*codes.names, "not named"] for codes in columns]
        return found.reshape(-1), [
            ", ".join(column[code] for column, code in zip(names, row, strict=True))
            for row in values
        ]


@dataclass(frozen=True)
class RuleCost:
    """What a rule does to the groups of the others."""

    rule: str
    tied: int  # milliseconds that it alone ties to others: of each group, all but the largest piece
    groups: int  # that there are without it
    largest: int  # milliseconds of the largest of them
    example: str  # what joins most of them
    joined: int  # how many it joins


@dataclass
class Split:
    """What was split, how, and what there is to say of it."""

    spec: str
    rows: SplitRows
    weights: np.ndarray  # milliseconds of each row
    sides: np.ndarray  # the side of each row
    asked: dict[str, int]  # milliseconds by side; train has the rest
    groups: int
    largest: int  # milliseconds of the largest of them
    costs: list[RuleCost]
    unusable: int  # rows that were left out because they cannot be used
    notes: list[str] = field(default_factory=list)

    def held(self, side: int) -> int:
        return int(self.weights[self.sides == side].sum())


def split_source(
    spec: str,
    out: Path,
    sizes: Mapping[str, Size],
    by: Sequence[str] = RULES,
    stratify: Sequence[str] = (),
    seed: int = 0,
    keep: Path | None = None,
    options: ReadOptions = AS_USUAL,
) -> Split:
    """Writes train.jsonl and a file for each other side into a new folder. The same rows are split
    alike in any order. Rows that cannot be used are logged and left out.

    Args:
        spec: a source whose recordings are files.
        sizes: what "dev" and "test" are to have.
        by: what rows on two sides must not share: "speaker", "recording", "text" (but for case,
            punctuation and spaces), or the name of another column.
        stratify: columns whose values should have the same shares on each side.
        keep: the folder of an earlier split, whose rows stay where they are.

    Raises:
        ConfigError: no row has what is to be kept apart or balanced, or the sizes are too large.
        DataError: the source cannot be read or split.
        EchoError: the folder holds something, or cannot be written to.
    """
    new_folder(out)
    rows = SplitRows(
        {rule: rule_codes(rule) for rule in by}, {name: (column_codes(name),) for name in stratify}
    )
    earlier = Earlier()
    if keep is not None:
        check_kept(keep, sizes)
        for row, side in earlier.read(keep, options):
            rows.add(row, side=side, counts=False)
    old = len(rows.lines)
    unusable = 0
    for found in usable_rows(spec, options):
        if found is None:
            unusable += 1
        else:
            line = manifest_line(*found, out.resolve())
            rows.add(found[1], line, earlier.side_of(found[1]))
    check_found(spec, "--by", rows.rules, rows.columns)
    check_found(spec, "--stratify", rows.strata, rows.columns)

    weights, sides, keys = np.array(rows.milliseconds), np.array(rows.sides), rows.keys(by)
    whole = int(weights.sum())
    asked = {side: size.milliseconds(whole) for side, size in sizes.items()}
    if sum(asked.values()) >= whole:
        raise ConfigError(
            f"{' and '.join(f'--{side}' for side in sizes)} would take "
            f"{hours(sum(asked.values()))} of the {hours(whole)} hours of {spec} and leave nothing "
            "to train on"
        )
    labels = components(len(sides), keys)
    groups = totals(labels, weights, labels.max() + 1)
    costs = [rule_cost(rule, rows, labels, weights) for rule in by]
    split = Split(
        spec,
        rows,
        weights,
        sides,
        asked,
        int((groups > 0).sum()),
        int(groups.max()),
        costs,
        unusable,
    )
    if keep is not None:
        split.notes += kept_notes(split, keep, old, follow(sides, keys, weights))
    fill(split, labels, seed)
    split.notes += size_notes(split, strict=keep is None) + unnamed_notes(split, old)
    with whole_folder(out) as folder:
        for number, name in enumerate((*SIDES, LEFT_OUT_FILE)):
            wanted = sides == number
            wanted[:old] = False
            if wanted.any() or name in ("train", *sizes):
                with side_file(folder, name).open(
                    "w", encoding="utf-8", errors="backslashreplace", newline="\n"
                ) as file:
                    file.writelines(compress(rows.lines, wanted))
    return split


def check_kept(keep: Path, sizes: Collection[str]) -> None:
    """Raises ConfigError if an earlier split has a side that this one lacks."""
    for side in SIDES[1:]:
        if side not in sizes and side_file(keep, side).exists():
            raise ConfigError(f"{keep}: has {side_file(keep, side).name}, so give --{side} as well")


def rule_cost(rule: str, rows: SplitRows, labels: np.ndarray, weights: np.ndarray) -> RuleCost:
    """Compares the groups with those that there are without a rule."""
    pieces = components(len(labels), rows.keys(other for other in rows.rules if other != rule))
    sizes = totals(pieces, weights, pieces.max() + 1)
    largest = np.zeros(labels.max() + 1, dtype=np.int64)
    np.maximum.at(largest, labels, sizes[pieces])
    example, joined = "", 0
    for codes in rows.rules[rule]:
        values = codes.array
        named = np.unique(np.stack([values, pieces], 1)[(values >= 0) & (weights > 0)], axis=0)
        if len(named):
            counts = np.bincount(named[:, 0])
            if counts.max() > joined:
                example, joined = list(codes.names)[counts.argmax()], int(counts.max())
    return RuleCost(
        rule,
        int(weights.sum() - largest.sum()),
        int((sizes > 0).sum()),
        int(sizes.max()),
        example,
        joined,
    )


def fill(split: Split, labels: np.ndarray, seed: int) -> None:
    """Puts the free groups on sides. DataError if there are too few."""
    sides, weights = split.sides, split.weights
    stratum, names = split.rows.stratum()
    free = np.flatnonzero(sides == FREE)
    digests = np.full(labels.max() + 1, 2**64 - 1, dtype=np.uint64)
    np.minimum.at(digests, labels[free], np.array(split.rows.digests, dtype=np.uint64)[free])
    found = np.unique(labels[free])
    order = found[np.argsort(shuffled(digests[found], seed), kind="stable")].tolist()
    pairs, places = np.unique(labels[free] * len(names) + stratum[free], return_inverse=True)
    parts: dict[int, dict[int, int]] = {group: {} for group in order}
    amounts = totals(places, weights[free], len(pairs))
    for pair, amount in zip(pairs.tolist(), amounts.tolist(), strict=True):
        parts[pair // len(names)][pair % len(names)] = amount

    whole = totals(stratum, weights, len(names))
    empty = [side for side in ("train", *split.asked) if not split.held(SIDES.index(side))]
    if len(empty) > len(order):
        raise DataError(
            f"{split.spec}: cannot be split into {', '.join(('train', *split.asked))}: "
            f"{joined(split)}"
        )
    where = np.full(labels.max() + 1, SIDES.index("train"))
    for side, asked in split.asked.items():
        number = SIDES.index(side)
        mine = sides == number
        held = totals(stratum[mine], weights[mine], len(names))
        goal = np.array([asked * int(each) // int(whole.sum()) for each in whole]) - held
        chosen = choose(order, parts, goal)
        empty = [other for other in empty if other != side]
        del chosen[max(0, len(order) - len(empty)) :]
        where[chosen] = number
        taken = {*chosen}
        order = [group for group in order if group not in taken]
    sides[free] = where[labels[free]]


def shuffled(numbers: np.ndarray, seed: int) -> np.ndarray:
    """Returns numbers of 64 bits that look random and depend on each number and the seed alone, by
    the finaliser of SplitMix64."""
    mixed = numbers + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def joined(split: Split) -> str:
    """Returns what the groups are, which rule joins most of them, and what to do without it."""
    said = (
        f"its rows are {split.groups} group{'s' * (split.groups != 1)} of which each must stay on "
        f"one side, and the largest has {hours(split.largest)} of {hours(split.weights.sum())} hours"
    )
    worst = max(split.costs, key=lambda cost: cost.tied)
    rest = ",".join(cost.rule for cost in split.costs if cost is not worst)
    if not rest or not worst.tied:
        return f"{said}; choose what must be kept apart with --by"
    return (
        f"{said}. The rule {worst.rule!r} joins them: {brief(worst.example)!r} alone is in "
        f"{worst.joined} of the {worst.groups} groups that there are without it. To leave it out: "
        f"--by {rest}"
    )


def size_notes(split: Split, strict: bool) -> list[str]:
    """Says which sides are not as large as was asked. DataError if `strict` and one has hardly
    anything."""
    notes = []
    for side, asked in split.asked.items():
        held = split.held(SIDES.index(side))
        if abs(held - asked) <= OFF * asked:
            continue
        said = f"{side} has {hours(held)} hours where {hours(asked)} were asked for"
        if strict and held < TOO_LITTLE * asked:
            raise DataError(f"{split.spec}: {said}: {joined(split)}")
        notes.append(said)
    if notes:
        notes.append(joined(split))
    return notes


def unnamed_notes(split: Split, old: int) -> list[str]:
    """Says of how many rows a rule knows nothing."""
    notes = []
    for rule in split.rows.rules:
        if rule in ("recording", "text"):  # which each row has, or it has no words to share
            continue
        missing = split.rows.keys([rule])[0][old:] < 0
        if missing.any():
            notes.append(
                f"{missing.sum()} rows of {hours(split.weights[old:][missing].sum())} hours have no "
                f"{rule!r}, so nothing keeps those of one {rule!r} on one side"
            )
    return notes


def kept_notes(split: Split, keep: Path, old: int, torn: np.ndarray) -> list[str]:
    """Says how many rows stayed, came and could not, by the sides before free groups got one."""
    sides = split.sides[old:]
    stayed = int((np.array(split.rows.sides[old:]) != FREE).sum())
    notes = [f"{stayed} rows are on the sides that they have in {keep}; {len(sides) - stayed} new"]
    left_out = sides == len(SIDES)
    if left_out.any():
        notes.append(
            f"{left_out.sum()} new rows of {hours(split.weights[old:][left_out].sum())} hours share "
            f"something with two sides: left out, see {side_file(Path(), LEFT_OUT_FILE)}"
        )
    if torn[old:].any():
        notes.append(
            f"{torn[old:].sum()} rows that stay share something with another side; "
            "--check lists them"
        )
    if gone := {*split.rows.digests[:old]} - {*split.rows.digests[old:]}:
        notes.append(f"{len(gone)} rows of {keep} are gone or changed")
    return notes


def hours(milliseconds: int) -> str:
    return f"{milliseconds / HOUR:.2f}"


def format_split(split: Split) -> str:
    """Returns what was split and how as plain text, for a terminal."""
    counted = split.weights > 0
    names = [*SIDES[:1], *split.asked]
    lines = [
        f"{visible(split.spec)}: {counted.sum()} rows, {hours(split.weights.sum())} hours"
        + f", and {split.unusable} rows that cannot be used" * bool(split.unusable),
        "",
        table(
            ["rule", "hours it ties", "groups without it", "largest without it, hours"],
            [
                *(
                    [visible(c.rule), hours(c.tied), str(c.groups), hours(c.largest)]
                    for c in split.costs
                ),
                ["all rules", "", str(split.groups), hours(split.largest)],
            ],
        ),
        "",
        table(
            ["side", "rows", "hours", "share", "asked, hours", "speakers"],
            [side_row(split, name, counted) for name in names],
        ),
    ]
    if split.rows.strata:
        lines += ["", strata_table(split, names)]
    return "\n".join([*lines, *(["", *map(visible, split.notes)] if split.notes else [])])


def side_row(split: Split, name: str, counted: np.ndarray) -> list[str]:
    mine = counted & (split.sides == SIDES.index(name))
    held = split.weights[mine].sum()
    speakers = np.unique(split.rows.speakers.array[mine])
    return [
        name,
        str(mine.sum()),
        hours(held),
        f"{held / split.weights.sum():.2%}",
        hours(split.asked[name]) if name in split.asked else "the rest",
        str((speakers >= 0).sum()) if split.rows.speakers.names else "not named",
    ]


def strata_table(split: Split, names: Sequence[str]) -> str:
    """Returns the share of the largest strata on each side."""
    stratum, titles = split.rows.stratum()
    whole = totals(stratum, split.weights, len(titles))
    shown = [k for k in np.argsort(-whole, kind="stable")[:MAX_STRATA] if whole[k]]
    shares = []
    for name in names:
        mine = split.sides == SIDES.index(name)
        held = totals(stratum[mine], split.weights[mine], len(titles))
        shares.append(held / max(1, held.sum()))
    rest = f" (the largest {MAX_STRATA} of {len(titles)})" * (len(titles) > MAX_STRATA)
    return table(
        [", ".join(map(visible, split.rows.strata)) + rest, "hours", *names],
        [
            [visible(titles[k]), hours(whole[k]), *(f"{share[k]:.1%}" for share in shares)]
            for k in shown
        ],
    )
