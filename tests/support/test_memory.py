import time

import torch

from echo.support.memory import PeakMemory

MB = 1_000_000


def added(megabytes: int) -> float:
    with PeakMemory(torch.device("cpu")) as peak:
        block = torch.ones(megabytes * MB // 4)
        time.sleep(0.05)  # long enough to be seen
        del block
    return peak.added / MB


def test_a_block_has_its_own_peak_and_not_an_earlier_ones():
    assert 0 <= added(1) < 20
    assert 195 < added(200) < 230
    assert 0 <= added(1) < 20
