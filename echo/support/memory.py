"""How much memory a piece of work takes at its peak."""

import ctypes
import gc
import platform
import threading

import psutil
import torch

SECONDS_BETWEEN_SAMPLES = 0.01
M_MMAP_THRESHOLD = -3  # its number in glibc's malloc.h
MAPPED_BYTES = 2**20
MAPPED_BYTES_BY_DEFAULT = 2**25  # what glibc's threshold grows to where large blocks are freed


class PeakMemory:
    """The bytes in use at the peak of a `with` block, beyond those in use at its start.

    On CUDA, this is what PyTorch's allocator counts. On the CPU, it is the process's resident
    memory, read a hundred times a second by a thread, because the system's own peak never falls. It
    includes all that the process allocates within the block, and may miss peaks under 10 ms. Where
    the system tells them apart, pages of files are not counted, such as those of libraries: it
    drops them and reads them again as it likes.

    Within the block, glibc takes every tensor over 1 MiB from the system and gives it back when it
    is freed. From its heap, where they would leave gaps, a Whisper tiny seemed to take anything
    from 91 to 153 MB beside its weights, and takes 58 to 64 MB.
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
            map_blocks_from(MAPPED_BYTES)
            self.process = psutil.Process()
            self.start = self.resident()
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
            map_blocks_from(MAPPED_BYTES_BY_DEFAULT)

    def resident(self) -> int:
        memory = self.process.memory_info()
        return memory.rss - getattr(memory, "shared", 0)

    def watch(self) -> None:
        while True:
            self.added = max(self.added, self.resident() - self.start)
            if self.stopped.wait(SECONDS_BETWEEN_SAMPLES):
                return


def release_unused() -> None:
    """Returns freed memory to the system. Memory that the allocator keeps would be used again
    without being counted: the same model would seem to take a third less the second time."""
    gc.collect()
    if (libc := glibc()) is not None:
        libc.malloc_trim(0)


def map_blocks_from(size: int) -> None:
    """Sets from how many bytes on a block of memory is mapped on its own, outside the heap."""
    if (libc := glibc()) is not None:
        libc.mallopt(M_MMAP_THRESHOLD, size)


def glibc() -> ctypes.CDLL | None:
    """Returns the C library if it is glibc, whose allocator can be set and trimmed."""
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
