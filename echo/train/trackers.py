"""Experiment trackers, which show a run's curves while it lives. They are accelerate's; one that
fails does not stop the run."""

import json
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from echo.config import RunConfig
from echo.support.errors import ConfigError, EchoError, reason
from echo.support.files import read_object, replace_text
from echo.support.settings import flat

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

logger = logging.getLogger(__name__)

STATE_FILE = "trackers.json"


def check_trackers(names: Sequence[str]) -> None:
    """Raises ConfigError unless the packages of trackers are installed, without importing them."""
    for name in names:
        if find_spec(name) is None:
            raise ConfigError(
                f"train.trackers: {name} is not installed; install it with 'pip install {name}', "
                "or leave it out"
            )


class Trackers:
    """All trackers of a run.

    The run's `trackers.json` keeps the id by which each knows the run, and the last step that it
    was given of each kind of event. So a resumed run goes on in the same curves, and steps that are
    trained again are not drawn twice: TensorBoard forgets them, the others keep the first ones.
    """

    def __init__(
        self, run: Path, title: str, config: RunConfig, step: int, logged: Mapping[str, int]
    ) -> None:
        """Training starts or goes on at `step`; `logged` has the last step of each kind of event so
        far, which may lie after it. EchoError if a tracker cannot start."""
        from echo.train.backends import open_backend

        check_trackers(config.train.trackers)
        path = run / STATE_FILE
        states = read_object(path) if path.exists() else {}
        self.trackers: dict[str, Tracker] = {}
        for name in config.train.trackers:
            state = states.get(name)
            if state is not None and not is_state(state):
                raise EchoError(f"{path}: is damaged at {name}: remove that entry or the file")
            backend = open_backend(name, run, title, flat(config), step, state and state["id"])
            self.trackers[name] = tracker = Tracker(name, backend)
            if name == "tensorboard":
                continue
            if state:
                kinds = {*logged, *state["logged"]}
                last = {k: max(logged.get(k, -1), state["logged"].get(k, -1)) for k in kinds}
                tracker.logged = last
            states[name] = {"id": backend.run_id, "logged": tracker.logged}
        if states:
            replace_text(path, json.dumps(states, indent=1) + "\n")

    def log(self, kind: str, values: Mapping[str, float], step: int) -> None:
        """Logs the numbers of one event, of which `kind` is the kind."""
        for tracker in self.trackers.values():
            tracker.log(kind, values, step)

    def show(self, draw: "Callable[[SummaryWriter], None]") -> None:
        """Lets `draw` write to TensorBoard, if that is one of the trackers."""
        if tracker := self.trackers.get("tensorboard"):
            tracker.attempt(partial(draw, tracker.backend.tracker))

    def finish(self) -> None:
        for tracker in self.trackers.values():
            tracker.finish()


def is_state(state: Any) -> bool:
    """Returns whether `trackers.json` could hold this of a tracker."""
    if not isinstance(state, dict) or not isinstance(state.get("id"), str):
        return False
    logged = state.get("logged")
    return isinstance(logged, dict) and all(type(step) is int for step in logged.values())


class Tracker:
    """One tracker, of accelerate's. What it fails to take it is given again at the next event."""

    def __init__(self, name: str, backend: Any) -> None:
        self.name = name
        self.backend = backend
        self.logged: dict[str, int] = {}  # the last step by the kind of event
        self.waiting: deque[Callable[[], None]] = deque()
        self.warned = False
        # Some keep the one run that a program has in a context variable. A pilot has several.
        self.context = copy_context()
        try:
            self.context.run(backend.start)
        except Exception as error:  # of many kinds, by the package
            raise EchoError(f"train.trackers: {name} cannot start: {reason(error)}") from error

    def log(self, kind: str, values: Mapping[str, float], step: int) -> None:
        if step > self.logged.get(kind, -1):
            self.waiting.append(partial(self.backend.log, values, step=step))
            self.attempt(self.send)

    def finish(self) -> None:
        self.attempt(self.send)
        self.attempt(self.backend.finish)

    def send(self) -> None:
        while self.waiting:
            self.waiting[0]()
            self.waiting.popleft()

    def attempt(self, action: Callable[[], None]) -> None:
        """Does it, or warns once that it cannot be done."""
        try:
            self.context.run(action)
        except Exception as error:  # of many kinds, by the package
            if not self.warned:
                self.warned = True
                logger.warning(
                    "train.trackers: %s fails (%s): training goes on, and it is tried again at "
                    "every event",
                    self.name,
                    reason(error),
                )
