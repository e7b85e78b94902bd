"""How batches are filled: computed by hand where nothing is drawn, and within what is drawn."""

import random
from itertools import islice, pairwise

import pytest

from echo.data.batching import EpochBatches, Position, bucket
from tests.data.test_batching import corpus


@pytest.mark.parametrize(
    ("durations", "seconds", "size", "wanted"),
    [
        ([], 10, 4, []),
        ([3.0], 2, 4, [[0]]),  # longer than the limit, and alone
        ([3.0, 1.0, 2.0], 6, 4, [[1, 2], [0]]),  # three of 3 s would be 9
        ([3.0, 1.0, 2.0], 9, 4, [[1, 2, 0]]),  # the limit itself is kept
        ([1.0] * 5, 100, 2, [[0, 1], [2, 3], [4]]),  # as many as may be, and no more
        ([5.0, 5.0, 1.0, 1.0], 5, 4, [[2, 3], [0], [1]]),
        ([4.0, 1.0, 1.0, 1.0], 4, 8, [[1, 2, 3], [0]]),  # a batch's length starts anew
    ],
)
def test_neighbours_in_duration_fill_a_batch_to_its_limits(durations, seconds, size, wanted):
    assert bucket(durations, seconds, size) == wanted


def test_drawn_batches_mix_only_what_is_about_as_long():
    durations = [random.Random(i).uniform(1, 20) for i in range(400)]
    batches = bucket(durations, 60, 16, random.Random(1))
    spans = [(min(d), max(d)) for d in ([durations[i] for i in b] for b in batches)]
    ordered = sorted(spans)
    assert spans != ordered  # shuffled
    # Blurred, in proportion: long ones by more than a tenth of a second.
    assert max(high - low for (_, high), (low, _) in pairwise(ordered)) > 0.3
    assert all(high < low * 1.05 / 0.95 for (_, high), (low, _) in pairwise(ordered))
    assert sum(len(batch) > 1 for batch in batches) > 0.9 * len(batches)
    assert batches == bucket(durations, 60, 16, random.Random(1))
    assert sorted(map(sorted, batches)) != sorted(
        map(sorted, bucket(durations, 60, 16, random.Random(2)))
    )


def test_limits_hold_at_the_speed_that_is_drawn():
    durations = [random.Random(i).uniform(1, 9) for i in range(200)]
    speeds = [0.5, 1.0, 2.0]
    sampler = EpochBatches(corpus(durations), 3, 20, 8, speeds, Position())
    batches = sampler.block_batches(2, 0)
    items = [item for batch in batches for item in batch]
    assert sorted(item.index for item in items) == list(range(200))
    assert {item.epoch for item in items} == {2}
    counts = [sum(item.speed == speed for item in items) for speed in speeds]
    assert min(counts) > 40
    for batch in batches:
        longest = max(durations[item.index] / item.speed for item in batch)
        assert len(batch) <= 8
        assert len(batch) == 1 or len(batch) * longest <= 20


def test_a_position_is_behind_the_batches_of_all_processes():
    sampler = EpochBatches(corpus([1.0] * 6), 3, 2, 2, [1.0], Position(), rank=1, world=2)
    taken = zip(sampler, sampler.positions(), strict=False)
    found = [next(taken)[1] for _ in range(4)]
    # Three batches an epoch, two a round, over the ends of epochs.
    assert found == [Position(0, 2), Position(1, 1), Position(1, 3), Position(2, 2)]


def test_one_process_is_dealt_every_batch():
    alone = EpochBatches(corpus([1.0] * 6), 3, 2, 2, [1.0], Position())
    dealt = [item.index for batch in islice(alone, 3) for item in batch]
    assert sorted(dealt) == list(range(6))
