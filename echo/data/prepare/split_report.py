"""What a split is made of, and what there is to say of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from echo.data.prepare.groups import totals
from echo.data.prepare.keep import FREE, LEFT_OUT, SIDES, side_file
from echo.data.prepare.rules import Codes
from echo.support.text import brief, table, visible

LEFT_OUT_FILE = "left_out"
OFF = 0.01  # the share by which a side may differ from what was asked without a word
HOUR = 3_600_000  # milliseconds
MAX_STRATA = 20  # shown


@dataclass(frozen=True)
class SplitRows:
    """What is kept of each row, in columns."""

    rules: dict[str, tuple[Codes, ...]]
    strata: dict[str, tuple[Codes, ...]]
    speakers: Codes
    digests: np.ndarray
    sides: np.ndarray  # before the split

    def keys(self, rules: Iterable[str]) -> list[np.ndarray]:
        return [codes.array for rule in rules for codes in self.rules[rule]]

    def stratum(self) -> tuple[np.ndarray, list[str]]:
        """Returns the stratum of each row, which is a value of each of their columns, and the names
        of all."""
        columns = [codes for (codes,) in self.strata.values()]
        if not columns:
            return np.zeros(len(self.sides), dtype=np.int64), [""]
        together = np.stack([codes.array for codes in columns], 1)
        values, found = np.unique(together, axis=0, return_inverse=True)
        names = [
            [codes.name(code) if code >= 0 else "not named" for code in column.tolist()]
            for codes, column in zip(columns, values.T, strict=True)
        ]
        return found.reshape(-1), [", ".join(row) for row in zip(*names, strict=True)]


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


def joined(split: Split) -> str:
    """Says what the groups are, which rule joins most of them, and what to do without it."""
    said = (
        f"its rows are {split.groups} group{'s' * (split.groups != 1)} of which each must stay on "
        f"one side; the largest has {hours(split.largest)} of {hours(split.weights.sum())} hours"
    )
    # Models are measured on speakers whom they have not heard: that is given up last.
    much = OFF * split.weights.sum()
    worst = max(split.costs, key=lambda c: (c.rule != "speaker" and c.tied > much, c.tied))
    if len(split.costs) == 1:
        return f"{said}; choose something else to keep apart with --by"
    if not worst.tied:
        return (
            f"{said}, and to leave out one rule changes nothing: leave out more, as with "
            f"--by {split.costs[0].rule}"
        )
    rest = ",".join(cost.rule for cost in split.costs if cost is not worst)
    return (
        f"{said}. The rule {worst.rule!r} joins them: {brief(worst.example)!r} alone is in "
        f"{worst.joined} of the {worst.groups} groups that there would be without it. To leave the "
        f"rule out: --by {rest}"
    )


def size_notes(split: Split) -> list[str]:
    """Says which sides are not as large as was asked, and why."""
    notes = []
    for side, asked in split.asked.items():
        held = split.held(SIDES.index(side))
        if abs(held - asked) > OFF * asked:
            notes.append(f"{side} has {hours(held)} hours where {hours(asked)} were asked for")
    return [*notes, joined(split)] if notes else []


def unnamed_notes(split: Split, old: int) -> list[str]:
    """Says of how many rows a rule knows nothing."""
    notes = []
    for rule in split.rows.rules:
        if rule in ("recording", "text"):  # which each row has, or it has no words to share
            continue
        missing = split.rows.keys([rule])[0][old:] < 0
        if missing.any():
            notes.append(
                f"{missing.sum()} rows of {hours(split.weights[old:][missing].sum())} hours have "
                f"no {rule!r}, so nothing keeps those of one {rule!r} on one side"
            )
    return notes


def kept_notes(split: Split, keep: Path, old: int, torn: np.ndarray) -> list[str]:
    """Says how many rows stayed, came and could not, by the sides before free groups got one."""
    sides = split.sides[old:]
    stayed = int((split.rows.sides[old:] != FREE).sum())
    notes = [f"{stayed} rows are on the sides that they have in {keep}; {len(sides) - stayed} new"]
    left_out = sides == LEFT_OUT
    if left_out.any():
        notes.append(
            f"{left_out.sum()} new rows of {hours(split.weights[old:][left_out].sum())} hours "
            f"share something with two sides: left out, see {side_file(Path(), LEFT_OUT_FILE)}"
        )
    if torn[old:].any():
        notes.append(
            f"{torn[old:].sum()} rows that stay share something with another side; "
            "--check lists them"
        )
    if gone := {*split.rows.digests[:old].tolist()} - {*split.rows.digests[old:].tolist()}:
        notes.append(f"{len(gone)} rows of {keep} are gone or changed")
    return notes


def hours(milliseconds: int) -> str:
    return f"{milliseconds / HOUR:.3f}"


def format_split(split: Split) -> str:
    """Returns what was split and how as plain text, for a terminal."""
    counted = split.weights > 0
    names = [*SIDES[:1], *split.asked]
    costs = [[visible(c.rule), hours(c.tied), str(c.groups), hours(c.largest)] for c in split.costs]
    lines = [
        f"{visible(split.spec)}: {counted.sum()} rows, {hours(split.weights.sum())} hours"
        + f", and {split.unusable} rows that cannot be used" * bool(split.unusable),
        "",
        table(
            ["rule", "hours it ties", "groups without it", "largest without it, hours"],
            [*costs, ["all rules", "", str(split.groups), hours(split.largest)]],
        ),
        "",
        table(
            ["side", "rows", "hours", "share", "asked, hours", "speakers"],
            [side_row(split, name, counted) for name in names],
        ),
    ]
    if split.rows.strata:
        lines += ["", strata_table(split, names)]
    if split.notes:
        lines += ["", *map(visible, split.notes)]
    return "\n".join(lines)


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
        str((speakers >= 0).sum()) if len(split.rows.speakers.names) else "not named",
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
