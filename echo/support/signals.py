"""Signals that ask a run to stop, from the user or from a scheduler."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)

HANGUP = getattr(signal, "SIGHUP", None)  # sent where a terminal closes; Windows has none
ASKING = tuple(s for s in (signal.SIGTERM, signal.SIGINT, HANGUP) if s is not None)


class StopRequest:
    """A `with` block that records SIGTERM, SIGINT and SIGHUP, so that the step can be finished. A
    second signal is handled as before the block. A SIGHUP that is ignored, as under nohup, stays
    ignored."""

    def __init__(self) -> None:
        self.number = 0  # of the signal; 0 until one arrives

    def __enter__(self) -> "StopRequest":
        # In Python only the main thread handles signals.
        main = threading.current_thread() is threading.main_thread()
        under_nohup = HANGUP is not None and signal.getsignal(HANGUP) == signal.SIG_IGN
        heeded = [s for s in ASKING if main and not (s == HANGUP and under_nohup)]
        self.before = {s: signal.signal(s, self.note) for s in heeded}
        return self

    def __exit__(self, *raised: object) -> None:
        self.restore()

    def note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self.restore()
        logger.warning("%s: stopping after this step", signal.Signals(number).name)

    def restore(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


@contextmanager
def signals_held() -> Iterator[None]:
    """Delays signals to stop until the end of the block, and starts processes with them blocked:
    one that reached a worker before `leave_signals_to_parent` would kill it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_signals_to_parent(worker: int) -> None:
    """Makes a worker ignore signals to the whole process group, because the last step still needs
    its data. It obeys only SIGTERM from its parent."""
    for number in {*ASKING} - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # macOS does not tell who has sent a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=await_parent, args=(os.getppid(),), daemon=True).start()


def await_parent(parent: int) -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent:
        pass
    os._exit(0)
