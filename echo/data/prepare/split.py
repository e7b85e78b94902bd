"""Splits a data set into train, dev and test, so that no speaker, recording or sentence is on two
sides."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np

from echo.data.columns import Utterances
from echo.data.prepare import split_report as report
from echo.data.prepare.groups import choose, components, totals
from echo.data.prepare.keep import FREE, SIDES, Earlier, digest_of, follow, side_file
from echo.data.prepare.rows import manifest_line, open_manifest, usable_rows
from echo.data.prepare.rules import check_found, column_codes, rule_codes
from echo.data.prepare.split_report import RuleCost, Split, SplitRows, hours
from echo.data.sources import ReadOptions
from echo.data.sources.reader import AS_USUAL
from echo.data.utterance import Utterance
from echo.support.errors import ConfigError, DataError
from echo.support.files import new_folder, whole_folder
from echo.support.text import brief

RULES = ("speaker", "recording", "text")


@dataclass(frozen=True)
class Size:
    number: float
    unit: str  # "%" of all hours, or "h"

    def milliseconds(self, whole: int) -> int:
        return round(self.number * (whole / 100 if self.unit == "%" else report.HOUR))


def read_size(text: str, option: str) -> Size:
    """Parses "5%" or "2h". ConfigError if it is neither."""
    try:
        size = Size(float(text[:-1]), text[-1:])
    except ValueError:
        size = Size(0, "")
    if 0 < size.number < {"%": 100, "h": 1e6}.get(size.unit, 0):
        return size
    raise ConfigError(f"{option}: {brief(text)!r} must be a share such as 5%, or hours such as 2h")


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
    earlier, lines, sides_before, digests = Earlier(), list[str](), list[int](), list[int]()
    unusable, folder = 0, out.resolve()

    def all_rows() -> Iterator[Utterance]:
        nonlocal unusable
        if keep is not None:
            check_kept(keep, sizes)
            for row, side in earlier.read(keep, options):
                digests.append(digest_of(row))
                sides_before.append(side)
                yield row
        for found in usable_rows(spec, options):
            if found is None:
                unusable += 1
                continue
            digests.append(digest_of(found[1]))
            sides_before.append(earlier.side_of(found[1], digests[-1]))
            lines.append(manifest_line(*found, folder))
            yield found[1]

    told = Utterances.of(all_rows())
    old = len(told) - len(lines)
    rows = SplitRows(
        {rule: rule_codes(rule, told) for rule in by},
        {name: (column_codes(name, told),) for name in stratify},
        column_codes("speaker", told),
        np.array(digests, dtype=np.uint64),
        np.array(sides_before),
    )
    check_found(spec, "--by", rows.rules, told)
    check_found(spec, "--stratify", rows.strata, told)

    weights = np.array([round(1000 * seconds) for (seconds,) in told.cells("duration")])
    weights[:old] = 0  # they count for nothing but what others share with them
    sides, keys = rows.sides.copy(), rows.keys(by)
    whole = int(weights.sum())
    asked = {side: size.milliseconds(whole) for side, size in sizes.items()}
    if sum(asked.values()) >= whole:
        raise ConfigError(
            f"{' and '.join(f'--{side}' for side in sizes)} would take "
            f"{hours(sum(asked.values()))} of the {hours(whole)} hours of {spec}, and leave "
            "nothing to train on"
        )
    labels = components(len(sides), keys)
    groups = totals(labels, weights, labels.max() + 1)
    costs = [rule_cost(rule, rows, labels, weights) for rule in by]
    number, largest = int((groups > 0).sum()), int(groups.max())
    split = Split(spec, rows, weights, sides, asked, number, largest, costs, unusable)
    if keep is not None:
        split.notes += report.kept_notes(split, keep, old, follow(sides, keys, weights))
    fill(split, labels, seed)
    split.notes += report.size_notes(split) + report.unnamed_notes(split, old)
    with whole_folder(out) as new:
        for number, name in enumerate((*SIDES, report.LEFT_OUT_FILE)):
            wanted = sides == number
            wanted[:old] = False
            if wanted.any() or name in ("train", *sizes):
                with open_manifest(side_file(new, name)) as file:
                    file.writelines(compress(lines, wanted[old:]))
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
                example, joined = codes.name(int(counts.argmax())), int(counts.max())
    tied, groups = int(weights.sum() - largest.sum()), int((sizes > 0).sum())
    return RuleCost(rule, tied, groups, int(sizes.max()), example, joined)


def fill(split: Split, labels: np.ndarray, seed: int) -> None:
    """Puts the free groups on sides. DataError if there are too few."""
    sides, weights = split.sides, split.weights
    stratum, names = split.rows.stratum()
    free = np.flatnonzero(sides == FREE)
    digests = np.full(labels.max() + 1, 2**64 - 1, dtype=np.uint64)
    np.minimum.at(digests, labels[free], split.rows.digests[free])
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
        wanted = ", ".join(("train", *split.asked))
        raise DataError(f"{split.spec}: cannot be split into {wanted}: {report.joined(split)}")
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
