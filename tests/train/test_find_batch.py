"""Finding the largest batches: against a memory whose size is known."""

import pytest
import torch

from echo.support.errors import EchoError
from echo.train.find_batch import Probe, find_max_batch_seconds
from echo.train.step import TrainStep
from tests.train.test_loop import tiny


@pytest.fixture
def memory_of(monkeypatch):
    """Lets steps on more than so many seconds of audio, padding included, run out of memory."""

    def limit(seconds):
        accumulate = TrainStep.accumulate

        def limited(self, batches):
            if batches[0].attention_mask.numel() > 100 * seconds:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return accumulate(self, batches)

        monkeypatch.setattr(TrainStep, "accumulate", limited)

    return limit


def test_the_largest_batch_that_fits_is_found_with_a_margin(shared, memory_of):
    memory_of(20)
    found = find_max_batch_seconds(tiny(shared, data={"max_batch_size": 64}))
    assert 0.75 * 20 <= found <= 20


def test_silence_takes_memory_too(shared, memory_of):
    memory_of(45)
    config = tiny(shared, data={"max_batch_size": 64, "pad_to": 10})
    assert 0.75 * 45 <= find_max_batch_seconds(config) <= 45


def test_more_than_all_utterances_at_once_is_not_looked_for(shared, memory_of):
    memory_of(1e9)
    config = tiny(shared, data={"max_batch_size": 2})
    assert find_max_batch_seconds(config) < 50  # of two utterances of at most 6 s or so


def test_an_utterance_that_does_not_fit_alone_is_told_of(shared, memory_of):
    memory_of(1)
    with pytest.raises(EchoError, match=r"not even a batch of one utterance of \d\.\d s fits"):
        find_max_batch_seconds(tiny(shared))


def test_a_cpu_is_not_asked_for_more_than_the_system_has(shared, monkeypatch):
    config = tiny(shared)

    class System:
        available = 0

    probes = []
    monkeypatch.setattr(Probe, "fits", lambda self, seconds: probes.append(self) or False)
    with pytest.raises(EchoError):
        find_max_batch_seconds(config)
    monkeypatch.undo()
    probe = probes[0]
    monkeypatch.setattr("psutil.virtual_memory", System)
    probe.bytes_per_second = 1.0
    assert not probe.fits(10)
