"""What a check is, what comes of it, and how it is timed."""

import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.profiler import ProfilerActivity, profile


class SkippedError(Exception):
    """Says why a check does not run here."""


class FailedError(Exception):
    """Says what was found to be other than it should be."""


@dataclass(frozen=True)
class Place:
    """Where the checks run."""

    device: torch.device
    quick: bool  # small, so that they take seconds on a CPU
    folder: Path  # for what they write

    def need_cuda(self) -> None:
        if self.device.type != "cuda":
            raise SkippedError("needs CUDA")


@dataclass(frozen=True)
class Row:
    """What came of a check. One that crashed has met an error that it does not look for."""

    check: str
    case: str
    outcome: Literal["passed", "failed", "crashed", "skipped"]
    seconds: float
    values: Mapping[str, Any]
    reason: str = ""


@dataclass(frozen=True)
class Check:
    name: str
    case: tuple[Any, ...]
    run: Callable[..., dict[str, Any]]

    def row(self, place: Place) -> Row:
        """Runs the check, which returns what it has measured or raises what is wrong."""
        started, values, reason = time.perf_counter(), {}, ""
        outcome: Any = "passed"
        try:
            values = self.run(place, *self.case)
        except SkippedError as error:
            outcome, reason = "skipped", str(error)
        except FailedError as error:
            outcome, reason = "failed", str(error)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            outcome = "crashed"
            reason = f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}: {error}"
        return self.becomes(outcome, reason, values, time.perf_counter() - started)

    def becomes(
        self, outcome: Any, reason: str, values: dict[str, Any] | None = None, seconds: float = 0
    ) -> Row:
        case = ", ".join(map(str, self.case))
        return Row(self.name, case, outcome, round(seconds, 2), values or {}, reason[:500])


CHECKS: list[Check] = []


def check(*cases: tuple[Any, ...]) -> Callable[[Callable], Callable]:
    """Makes a function a check, once for each case: its arguments after the place."""

    def register(function: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        name = function.__name__.replace("_", " ")
        CHECKS.extend(Check(name, case, function) for case in cases or ((),))
        return function

    return register


def close(found: torch.Tensor, wanted: torch.Tensor, most: float, what: str) -> float:
    """The distance of two tensors, relative to the wanted one's norm, or to 0.001 where that is
    larger: rounding alone makes a gradient that should be 0 infinitely wrong.

    Raises:
        FailedError: it is larger than `most`, or not a number.
    """
    found, wanted = found.detach().double(), wanted.detach().double()
    error = float((found - wanted).norm() / wanted.norm().clamp(min=1e-3))
    if not error <= most:
        raise FailedError(f"{what} is off by {error:.2g}, more than {most:g}")
    return error


def host_syncs(work: Callable[[], Any]) -> tuple[int, str]:
    """How often the host waits for the device during some work, by the profiler, and the lines of
    Python where, as far as PyTorch knows them. The work must be warm."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        work()
    waits = ("cudaStreamSynchronize", "cudaEventSynchronize")
    count = sum(event.count for event in profiler.key_averages() if event.key in waits)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    lines: Iterable[str] = (
        f"{Path(w.filename).name}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)
    )
    return count, ", ".join(f"{line} ({n})" for line, n in Counter(lines).most_common())
