import mmap
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import torch

from echo.support.memory import PeakMemory

MB = 1_000_000
SEEN = 0.2  # seconds, long enough for the thread that looks, on a busy machine too


def added(megabytes: int) -> float:
    with PeakMemory(torch.device("cpu")) as peak:
        block = torch.ones(megabytes * MB // 4)
        time.sleep(SEEN)
        del block
    return peak.added / MB


def added_with_gaps() -> float:
    with PeakMemory(torch.device("cpu")) as peak:
        kept = [torch.ones(n * MB // 4) for n in range(1, 11) for _ in range(2)]
        del kept[::2]
        kept += [torch.ones(n * MB * 11 // 40) for n in range(1, 11)]
        time.sleep(SEEN)
        del kept
    return peak.added / MB


@pytest.fixture(scope="module")
def alone():
    """Calls a function in a process of its own: what other tests have left running in this one
    takes and frees memory too."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        yield lambda *call: pool.submit(*call).result()


def test_a_block_has_its_own_peak_and_not_an_earlier_ones(alone):
    assert 0 <= alone(added, 1) < 20
    assert 195 < alone(added, 200) < 230
    assert 0 <= alone(added, 1) < 20


def test_a_peak_does_not_depend_on_what_was_freed_before(alone):
    """Blocks that are freed in another order than they came leave gaps in the heap."""
    peaks = [alone(added_with_gaps) for _ in range(3)]
    assert peaks == [pytest.approx(peaks[0], rel=0.1)] * 3
    assert peaks[0] > 0.95 * (55 + 1.1 * 55)  # some systems count more, by pages of 2 MB


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell pages of files apart")
def test_pages_of_files_are_not_counted(tmp_path):
    """Which the system drops where memory is short, and reads again when they are used."""
    (tmp_path / "library").write_bytes(bytes(100 * MB))
    with (
        (tmp_path / "library").open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        PeakMemory(torch.device("cpu")) as peak,
    ):
        assert not any(content[i] for i in range(0, len(content), 1024))
        time.sleep(SEEN)
    assert peak.added < 20 * MB
