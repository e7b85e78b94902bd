"""Training several models in turn, in one process.

Whatever else the machine does then slows all of them alike, so that their seconds can be compared.
"""

import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path

from tqdm.contrib.logging import logging_redirect_tqdm

from echo.config import RunConfig, load_run_config
from echo.data.corpora.build import build_corpus
from echo.support.errors import ConfigError, StoppedError
from echo.support.signals import StopRequest
from echo.train.loop import Trainer
from echo.train.run import resumed_trainer, started_trainer
from echo.train.state import random_state, restore_random_state


class Contestant:
    """A training that draws from random generators as if it had them for itself."""

    def __init__(self, config: RunConfig, run: Path, title: str) -> None:
        """Starts the run, or goes on where it stood."""
        corpus = build_corpus(config.data, config.seed)
        is_there = (run / "config.yaml").exists()
        self.trainer: Trainer = (
            resumed_trainer(run, corpus) if is_there else started_trainer(config, run, corpus)
        )
        self.title = title
        self.random = random_state()
        self.done = False

    def enter(self, stack: ExitStack, request: StopRequest) -> None:
        """Begins training; when the stack unwinds, what it has open is closed."""
        self.steps = stack.enter_context(closing(self.trainer.steps(request, self.title)))

    def take_turn(self, turn: int) -> None:
        """Trains so many steps, fewer at the end, and one where it has been asked to stop."""
        restore_random_state(self.random)
        try:
            self.done = sum(1 for _ in islice(self.steps, turn)) < turn
        except StoppedError:
            self.done = True
        self.random = random_state()


def train_in_turn(runs: Mapping[Path, RunConfig], turn: int, out: Path) -> None:
    """Trains all runs, `turn` steps of each in every round, until each has spent its budget.

    Every run comes to the same losses and weights as one that is trained alone.

    Args:
        runs: by folder. A run that is there already goes on where it stood.
        out: the pilot's folder.

    Raises:
        StoppedError: by a signal, after a checkpoint of each run.
        EchoError: as of `Trainer.steps`.
    """
    contestants = [
        Contestant(config, run, str(run.relative_to(out))) for run, config in runs.items()
    ]
    with StopRequest() as request, logging_redirect_tqdm(), ExitStack() as stack:
        for contestant in contestants:
            contestant.enter(stack, request)
        going: Sequence[Contestant] = contestants
        while going:
            for contestant in going:
                contestant.take_turn(turn)
            going = [contestant for contestant in going if not contestant.done]
    if request.number:
        number = signal.Signals(request.number)
        message = f"{out}: stopped by {number.name}; go on by starting the same pilot again"
        raise StoppedError(message, number)


def check_folder(runs: Mapping[Path, RunConfig]) -> None:
    """
    Raises:
        ConfigError: a folder holds a run with other settings.
    """
    for run, config in runs.items():
        if (run / "config.yaml").exists() and load_run_config(run) != config:
            raise ConfigError(f"{run}: holds a run with other settings; choose another folder")
