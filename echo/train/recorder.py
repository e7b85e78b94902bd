"""A run's metrics: `metrics.jsonl` and TensorBoard scalars."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from echo.support.errors import EchoError
from echo.support.files import replace_text

SET_WER = "wer_"  # before a set's name


class Recorder:
    """Appends a JSON object per event, and the same numbers to TensorBoard.

    A resumed run continues from its checkpoint: later lines are deleted.
    """

    def __init__(self, run: Path, step: int) -> None:
        self.path = run / "metrics.jsonl"
        kept = [event for event in read_metrics(run) if event["step"] <= step]
        replace_text(self.path, "".join(json.dumps(event) + "\n" for event in kept))
        self.file = self.path.open("a", encoding="utf-8")
        self.writer = SummaryWriter(run / "tensorboard", purge_step=step + 1 if step else None)

    def record(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Writes one event. `kind` ("train", "eval", "checkpoint") groups its scalars."""
        self.file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        self.file.flush()
        for name, value in values.items():
            if isinstance(value, int | float):
                self.writer.add_scalar(f"{kind}/{name}", value, step)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.file.close()
        with suppress(OSError):  # the disk is full, which training reports itself
            self.writer.close()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The events of a run so far, without a last line that a crash cut off.

    Raises:
        EchoError: another line is not an event. Going on would lose the lines after it.
    """
    path = run / "metrics.jsonl"
    if not path.exists():
        return []
    events: list[dict[str, Any]] = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], 1):  # the last has no newline
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict) or not is_event(event):
            raise EchoError(f"{path}:{number}: is not an event of a training")
        events.append(event)
    return events


def measured_wers(event: Mapping[str, Any]) -> dict[str, float]:
    """The WERs of an evaluation by the names of its sets; a single set has the name ""."""
    named = {key.removeprefix(SET_WER): event[key] for key in event if key.startswith(SET_WER)}
    return named or {"": event["wer"]}


def is_event(event: dict[str, Any]) -> bool:
    return isinstance(event.get("kind"), str) and type(event.get("step")) is int
