"""Progress bars, which in a log file are a line a minute."""

import io
import sys
import time
from typing import Any

from tqdm import tqdm

SECONDS = 60.0  # between the lines of a log


class ProgressLines(tqdm):
    """What stands for a bar where nothing can be redrawn: a line a minute, and one at the end
    where a bar would stay."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.due = time.monotonic() + SECONDS
        super().__init__(*arguments, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if time.monotonic() >= self.due:
            self.write_line()

    def write_line(self) -> None:
        self.due = time.monotonic() + SECONDS
        self.fp.write(f"{self}\n")
        self.fp.flush()

    def clear(self, nolock: bool = False) -> None:
        """Does nothing: a line stays."""

    def close(self) -> None:
        if not self.disable:
            if self.leave:
                self.write_line()
            self.fp = io.StringIO()  # for what tqdm ends a bar with
        super().close()


def progress_bar(*arguments: Any, shown: bool = True, **options: Any) -> tqdm:
    """Returns a bar of tqdm on the standard error, or lines if that is no terminal. Without
    `shown` there is neither; with it the environment's TQDM_DISABLE decides."""
    kind = tqdm if sys.stderr.isatty() else ProgressLines
    return kind(*arguments, file=sys.stderr, **({} if shown else {"disable": True}), **options)
