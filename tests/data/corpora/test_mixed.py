"""The order in which mixed sources come: on it depends that a resumed run sees what is left."""

import random
from itertools import pairwise

from echo.data.corpora.stream import Weighted, mix

SIZE = 30


def order(seed, number, turn, size=SIZE):
    """As documented: each turn of each source is an order of its own."""
    parts = list(range(size))
    random.Random(f"{seed}-{number}-{turn}").shuffle(parts)
    return parts


def test_each_turn_of_each_source_is_shuffled_by_itself():
    sources = [Weighted(range(SIZE)), Weighted(range(SIZE))]
    orders = []
    for seed in (1, 2):
        for epoch in range(3):
            parts = mix(sources, seed, epoch)
            halves = parts[:SIZE], parts[SIZE:]  # source by source
            for number, half in enumerate(halves):
                assert half == order(seed, number, epoch)
                orders.append(half)
    assert all(sorted(found) == list(range(SIZE)) != found for found in orders)
    assert len({tuple(found) for found in orders}) == len(orders) == 12


def test_an_epoch_goes_on_where_the_one_before_has_stopped():
    """Epochs of 0.4 of 30 parts, end to end, are whole turns end to end."""
    found = [part for epoch in range(5) for part in mix([Weighted(range(SIZE), 0.4)], 7, epoch)]
    assert found == order(7, 0, 0) + order(7, 0, 1)


def test_a_source_that_comes_twice_comes_in_two_orders():
    parts = mix([Weighted(range(SIZE), 2.5)], 7, 1)  # epoch 0 has stopped amid the third turn
    assert parts == order(7, 0, 2)[SIZE // 2 :] + order(7, 0, 3) + order(7, 0, 4)
    assert all(a != b for a, b in pairwise([order(7, 0, turn) for turn in range(5)]))
