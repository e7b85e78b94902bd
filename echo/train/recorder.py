"""A run's events: `metrics.jsonl`, its trackers, and the log that `--log-format json` shows."""

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from echo.config import RunConfig
from echo.support.errors import EchoError
from echo.support.files import refuse_pipe, replace_text
from echo.train.trackers import Trackers

EVENTS = logging.getLogger("echo.events")
CURVES = ("train", "eval", "checkpoint")  # kinds of events whose numbers trackers draw
SET_WER = "wer_"  # before a set's name


class Recorder:
    """Appends a JSON object per event, and hands the same numbers to the run's trackers.

    A resumed run continues from its checkpoint: later lines are deleted.
    """

    def __init__(self, run: Path, title: str, config: RunConfig, step: int) -> None:
        """Trackers call the run `title`; training starts or goes on at `step`. EchoError if
        `metrics.jsonl` is damaged, or a tracker cannot start."""
        self.run = run
        self.path = run / "metrics.jsonl"
        events = read_metrics(run)
        kept = [event for event in events if event["step"] <= step]
        self.evaluations = [event for event in kept if event["kind"] == "eval"]
        logged: dict[str, int] = {}  # the last step of each kind of event
        for event in events:
            logged[event["kind"]] = max(event["step"], logged.get(event["kind"], 0))
        self.trackers = Trackers(run, title, config, step, logged)
        replace_text(self.path, "".join(json.dumps(event) + "\n" for event in kept))
        self.file = self.path.open("a", encoding="utf-8")

    def record(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Writes one event. `kind` ("train", "eval", "checkpoint") groups its scalars."""
        event = {"kind": kind, "step": step, **values}
        if kind == "eval":
            self.evaluations.append(event)
            event["best_wer"] = min(past["wer"] for past in self.evaluations)
        self.file.write(json.dumps(event) + "\n")
        self.file.flush()
        EVENTS.debug("%s", kind, extra={"event": {**event, "run": str(self.run)}})
        if kind in CURVES:
            numbers = {
                f"{kind}/{name}": value
                for name, value in event.items()
                if isinstance(value, int | float) and name != "step"
            }
            self.trackers.log(kind, numbers, step)

    def close(self) -> None:
        with suppress(OSError):  # the disk is full, which training reports itself
            self.file.close()
        self.trackers.finish()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The events of a run so far, without a last line that a crash cut off. EchoError if another
    line is not an event: going on would lose the lines after it."""
    path = run / "metrics.jsonl"
    if not path.exists():
        return []
    refuse_pipe(path)
    events: list[dict[str, Any]] = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], 1):  # the last has no newline
        try:
            event = json.loads(line)
            good = is_event(event)
        except (ValueError, RecursionError, KeyError, TypeError):
            good = False
        if not good:
            raise EchoError(f"{path}:{number}: is not an event of a run")
        events.append(event)
    return events


def is_event(event: dict[str, Any]) -> bool:
    """Returns whether an event has what others count on: a kind and a step, and of steps and
    evaluations numbers alone."""
    kind, step = event["kind"], event["step"]
    if not isinstance(kind, str) or type(step) is not int or step < 0:
        return False
    if kind == "eval" and "wer" not in event:
        return False
    numbers = (value for key, value in event.items() if key != "kind")
    return kind not in CURVES or all(type(value) in (int, float) for value in numbers)


def read_evaluations(run: Path) -> list[dict[str, Any]]:
    """Returns the evaluations of a run so far; see `read_metrics`."""
    return [event for event in read_metrics(run) if event["kind"] == "eval"]


def measured_wers(event: Mapping[str, Any]) -> dict[str, float]:
    """The WERs of an evaluation by the names of its sets; a single set has the name ""."""
    named = {key.removeprefix(SET_WER): event[key] for key in event if key.startswith(SET_WER)}
    return named or {"": event["wer"]}
