"""Commands in processes that are forked from this one, which has imported all they need: an input
then costs what it does, and not the seconds of an import."""

import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from attempts import Attempt

import echo.cli.entry
import echo.evaluate.measure
import echo.pilot.run
import echo.report.write
import echo.train.run
import echo.transcribe.transcribe

torch.set_num_threads(1)  # a forked process cannot use its parent's thread pool

MEMORY = 6 << 30  # bytes of address space beyond the parent's
UNFORESEEN = 70  # the exit code of a traceback


class Child:
    """A command that runs."""

    def __init__(self, attempt: Attempt, seconds: float) -> None:
        self.attempt = attempt
        self.deadline = time.monotonic() + seconds
        self.seconds = 0.0
        self.started = time.monotonic()
        self.code: int | None = None  # None if it had to be ended
        self.pid = start(attempt.argv, attempt.here, attempt.environment)
        self.handle = os.pidfd_open(self.pid)

    def end(self, hung: bool) -> None:
        if hung:
            os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.handle)
        self.code = None if hung else os.waitstatus_to_exitcode(status)
        self.seconds = time.monotonic() - self.started

    def output(self, name: str) -> str:
        return (self.attempt.here / name).read_text(errors="replace")


def wait_for_one(running: Sequence[Child]) -> Child:
    """Waits until a command ends, or has taken too long and is ended."""
    left = max(0.0, min(child.deadline for child in running) - time.monotonic())
    ready, _, _ = select.select([child.handle for child in running], [], [], left)
    done = next((child for child in running if child.handle in ready), None)
    child = done or min(running, key=lambda child: child.deadline)
    child.end(hung=done is None)
    return child


def start(argv: Sequence[str], here: Path, environment: Mapping[str, str]) -> int:
    """Starts a command in a folder, where it writes `stdout` and `stderr`; returns its process."""

    def command() -> None:
        os.environ.update(environment)
        sys.argv = ["echo-asr", *argv]
        echo.cli.entry.main()

    return fork(command, here)


def fork(work: Callable[[], object], here: Path) -> int:
    """Does work in a process of its own."""
    child = os.fork()
    if child:
        return child
    code = 0
    try:
        os.chdir(here)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        for name, stream in (("stdout", sys.stdout), ("stderr", sys.stderr)):
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, stream.fileno())
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        work()
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except BaseException:
        traceback.print_exc()
        code = UNFORESEEN
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def run(work: Callable[[], object], here: Path) -> int:
    """Does work in a process of its own, and returns its exit code."""
    here.mkdir(parents=True, exist_ok=True)
    return os.waitstatus_to_exitcode(os.waitpid(fork(work, here), 0)[1])
