import random
from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from echo.data.audio import AudioArray
from echo.data.batching import EpochBatches, Position, bucket
from echo.data.utterance import FixedCorpus, Utterance
from echo.model.geometry import Limits


def corpus(durations):
    audio = AudioArray(torch.zeros(160).numpy(), 16_000, "silence")
    utterances = [Utterance(str(i), audio, "a", d) for i, d in enumerate(durations)]
    return FixedCorpus(utterances, utterances[:1])


@given(
    st.lists(st.floats(0.1, 30), max_size=80),
    st.floats(1, 100),
    st.integers(1, 20),
    st.none() | st.integers(),
)
def test_batches_hold_every_utterance_once_and_keep_the_limits(durations, seconds, size, seed):
    rng = None if seed is None else random.Random(seed)
    batches = bucket(durations, seconds, size, rng)
    assert sorted(i for batch in batches for i in batch) == list(range(len(durations)))
    for batch in batches:
        assert 1 <= len(batch) <= size
        longest = max(durations[i] for i in batch)
        assert len(batch) == 1 or len(batch) * longest <= seconds


def sampler(start=Position(), rank=0, world=1, seed=3):  # noqa: B008
    durations = [random.Random(0).uniform(0.5, 8) for _ in range(60)]
    return EpochBatches(corpus(durations), seed, 20, 8, [0.9, 1.0, 1.1], start, rank, world)


def taken(batches, count):
    """So many batches, and the position behind each of them."""
    pairs = list(islice(zip(batches, batches.positions(), strict=False), count))
    return [batch for batch, _ in pairs], [position for _, position in pairs]


def test_sampling_goes_on_from_any_position_as_if_never_stopped():
    whole, positions = taken(sampler(), 60)
    for done in (1, 7, 13, 40):
        resumed = islice(sampler(positions[done - 1]), 60 - done)
        assert list(resumed) == whole[done:]


def test_sampling_anew_forgets_what_was_ahead():
    batches = sampler()
    list(islice(batches, 5))
    assert taken(batches, 10) == taken(sampler(), 10)


def test_each_epoch_is_drawn_once(monkeypatch):
    """For iteration, which is some batches ahead, and for its positions together."""
    drawn = []
    draw = EpochBatches.block_batches
    monkeypatch.setattr(
        EpochBatches,
        "block_batches",
        lambda self, e, b: drawn.append(e) or draw(self, e, b),
    )
    batches = sampler()
    ahead, positions = iter(batches), batches.positions()
    list(islice(ahead, 4))
    found = [(next(ahead), next(positions)) for _ in range(60)]
    assert drawn == list(range(found[-1][0][0].epoch + 1))
    assert len(drawn) > 2


def test_epochs_differ_and_seeds_too():
    first, second = sampler().block_batches(0, 0), sampler().block_batches(1, 0)
    assert first != second
    assert first != sampler(seed=4).block_batches(0, 0)
    assert first == sampler().block_batches(0, 0)


def dealt(rounds, start, world):
    """What all processes together are given in so many rounds, and the position after these."""
    shares = [taken(sampler(start, rank, world), rounds) for rank in range(world)]
    ends = [positions[-1] for _, positions in shares]
    assert ends == ends[:1] * world
    rounds_ = zip(*(batches for batches, _ in shares), strict=True)
    return [batch for dealt_ in rounds_ for batch in dealt_], ends[0]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 15)), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_processes_share_one_order_and_others_go_on_with_it(runs):
    """Over the ends of epochs, and with more processes than an epoch has batches too."""
    position, found = Position(), []
    for world, rounds in runs:
        batches, position = dealt(rounds, position, world)
        found += batches
    assert found == list(islice(sampler(), len(found)))


def test_every_process_has_batches_where_there_are_few():
    few = corpus([1.0, 1.0, 5.0])
    parts = [
        list(islice(EpochBatches(few, 3, 5, 8, [1.0], Position(), rank, 5), 2)) for rank in range(5)
    ]
    seen = [(item.epoch, item.index) for part in parts for batch in part for item in batch]
    assert len(set(seen)) == len(seen) == 15


@pytest.mark.parametrize("silence", [{"pad_to_seconds": 10.0}, {"added_silence": 2.5}])
def test_added_silence_counts_as_audio(silence):
    """As long as the reader makes them: no batch is longer than its limit."""
    durations = [random.Random(0).uniform(0.5, 8) for _ in range(60)]
    limits = Limits(8, 1000, 40, **silence)
    batches = EpochBatches(corpus(durations), 3, 25, 64, [1.0], Position(), limits=limits)
    found = batches.block_batches(0, 0)
    assert sorted(item.index for batch in found for item in batch) == list(range(60))
    for batch in found:
        frames = [limits.padded(round(100 * durations[item.index]), 100) for item in batch]
        assert len(batch) == 1 or len(batch) * max(frames) <= 2500 + len(batch)


def test_without_silence_a_duration_stays_as_it_is():
    """To the bit: batches are made by it."""
    limits = Limits(8, 1000, 40)
    for seconds in (0.1 + 0.2, 9.123456789, 12.0):
        assert limits.padded_seconds(seconds) == seconds
