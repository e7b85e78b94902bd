"""How much memory a piece of work takes at its peak."""

import ctypes
import gc
import sys
import threading

import psutil
import torch

SECONDS_BETWEEN_SAMPLES = 0.01


class PeakMemory:
    """The bytes in use at the peak of a `with` block, beyond those in use at its start.

    On CUDA, this is what PyTorch's allocator counts. On the CPU, it is the process's resident
    memory, read a hundred times a second by a thread, because the system's own peak never falls. It
    includes all that the process allocates within the block, and may miss peaks under 10 ms.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.added = 0

    def __enter__(self) -> "PeakMemory":
        release_unused()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.start = torch.cuda.memory_allocated(self.device)
        else:
            self.process = psutil.Process()
            self.start = self.process.memory_info().rss
            self.stopped = threading.Event()
            self.thread = threading.Thread(target=self.watch, daemon=True)
            self.thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self.device.type == "cuda":
            self.added = torch.cuda.max_memory_allocated(self.device) - self.start
        else:
            self.stopped.set()
            self.thread.join()

    def watch(self) -> None:
        while True:
            self.added = max(self.added, self.process.memory_info().rss - self.start)
            if self.stopped.wait(SECONDS_BETWEEN_SAMPLES):
                return


def release_unused() -> None:
    """Returns freed memory to the system. Memory that the allocator keeps would be used again
    without being counted: the same model would seem to take a third less the second time."""
    gc.collect()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # only glibc has it
