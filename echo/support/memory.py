"""How much memory a piece of work takes at its peak."""

import ctypes
import gc
import sys
import threading
from types import TracebackType

import psutil
import torch

SECONDS_BETWEEN_SAMPLES = 0.01


class PeakMemory:
    """Bytes in use at the peak of a `with` block, beyond those in use at its start.

    On CUDA, what PyTorch's allocator counted. On the CPU, the process's resident memory: the
    system's own peak never falls, so a second block would inherit the first one's; hence a thread
    reads the present size a hundred times a second. A peak shorter than that may be missed, and
    whatever else the process allocates meanwhile is counted.
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
    """Gives freed memory back to the system. What the allocator kept of earlier work would be
    used again without a trace: the same model seemed to take a third less the second time."""
    gc.collect()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # glibc alone has it
