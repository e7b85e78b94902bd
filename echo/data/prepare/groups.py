"""Groups of rows that must stay together, and the choice of groups for a side of a split. All sums
are of integers, so that they are the same in any order and on any machine."""

from collections.abc import Iterable, Sequence

import numpy as np

# How much of a side is chosen group by group, in typical groups that are left for the rest. Their
# best subset is then searched among so many groups, and by sums that are rounded to such a share.
LAST_GROUPS = 20
CANDIDATES = 200
CELLS = 1000
CLOSE = 0.002  # of a side: a sum so near is as good as exact
EVEN = 0.02  # of a side: what its strata may have too much or too little of, altogether


def components(count: int, columns: Iterable[np.ndarray]) -> np.ndarray:
    """Returns the group of each of `count` rows, numbered from 0 in the order of their first rows:
    rows that have the same code in one of the columns are in one group. A code of -1 is none."""
    named = [(np.flatnonzero(codes >= 0), codes) for codes in columns]
    labels = np.arange(count)  # of each row, the first row known to be in its group
    changed = True
    while changed:
        changed = False
        for rows, codes in named:
            if not len(rows):
                continue
            mine, shared = labels[rows], codes[rows]
            lowest = np.full(shared.max() + 1, count)
            np.minimum.at(lowest, shared, mine)
            parents = np.arange(count)
            np.minimum.at(parents, mine, lowest[shared])
            while not np.array_equal(further := parents[parents], parents):
                parents = further
            joined = parents[labels]
            changed |= not np.array_equal(joined, labels)
            labels = joined
    return np.unique(labels, return_inverse=True)[1]


def totals(labels: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """Returns the sum of the weights of each label."""
    found = np.zeros(count, dtype=np.int64)
    np.add.at(found, labels, weights)
    return found


def choose(
    order: Sequence[int],
    parts: dict[int, dict[int, int]] | Sequence[dict[int, int]],
    goal: np.ndarray,
) -> list[int]:
    """Returns groups that add up to a goal: most of them the first ones of an order that fit, and
    at the end a subset of some others that comes closest, with strata as even as can be.

    Args:
        order: the groups that may be chosen, at random.
        parts: the milliseconds that a group has of each stratum.
        goal: the milliseconds that are wanted of each stratum.
    """
    if goal.sum() <= 0 or not order:
        return []
    sizes = {group: sum(parts[group].values()) for group in order}
    budget = goal.sum() - LAST_GROUPS * int(np.median(list(sizes.values())))
    left = goal.tolist()
    chosen, others = [], []
    for group in order:
        part = parts[group]
        if sizes[group] <= budget and all(left[k] >= amount for k, amount in part.items()):
            chosen.append(group)
            budget -= sizes[group]
            for k, amount in part.items():
                left[k] -= amount
        else:
            others.append(group)
    rest = np.array(left)
    candidates = [group for group in others if sizes[group] <= 2 * rest.sum()][:CANDIDATES]
    if candidates:
        table = np.zeros((len(candidates), len(goal)), dtype=np.int64)
        for row, group in zip(table, candidates, strict=True):
            for k, amount in parts[group].items():
                row[k] = amount
        chosen += [candidates[i] for i in best_subset(table, rest, int(goal.sum()))]
    return chosen or [min(order, key=sizes.__getitem__)]


def best_subset(parts: np.ndarray, goal: np.ndarray, whole: int) -> list[int]:
    """Returns the rows of (groups, strata) whose sum is close to the goal: of sums about equal,
    which are one cell, it follows the one whose strata are the most even.

    This is the subset-sum scheme of Ibarra and Kim (1975) with a second objective.
    """
    total = int(goal.sum())
    cell = max(1, total // CELLS)
    share = goal / total
    sums = np.zeros((1, parts.shape[1]), dtype=np.int64)
    nodes = np.zeros(1, dtype=np.int64)  # of each sum, its entry in:
    history = [(-1, -1)]  # the group that was added last, and the entry before
    for i, part in enumerate(parts):
        grown = sums + part
        both = np.concatenate([sums, grown[grown.sum(1) <= 2 * total]])
        origins = np.concatenate([nodes, -1 - nodes[grown.sum(1) <= 2 * total]])
        cells = both.sum(1) // cell
        uneven = unevenness(both, share)
        best = np.lexsort((np.arange(len(both)), uneven, cells))
        best = best[np.diff(cells[best], prepend=-1) > 0]
        sums, nodes = both[best], origins[best]
        new = np.flatnonzero(nodes < 0)
        history += [(i, -1 - node) for node in nodes[new].tolist()]
        nodes[new] = np.arange(len(history) - len(new), len(history))
        near = np.abs(sums.sum(1) - total) <= CLOSE * whole
        if (near & (uneven[best] <= EVEN * whole)).any():
            break
    off = np.abs(sums.sum(1) - total)
    off[off <= CLOSE * whole] = 0
    node = nodes[np.lexsort((unevenness(sums, share), off))[0]]
    found = []
    while node > 0:
        i, node = history[node]
        found.append(i)
    return found[::-1]


def unevenness(sums: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Returns how many milliseconds of (sums, strata) lie in the wrong strata."""
    return np.rint(np.abs(sums - sums.sum(1, keepdims=True) * share)).astype(np.int64).sum(1)
