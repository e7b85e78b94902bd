"""Trains several models in turn, in one process.

Whatever else the machine does slows all of them alike, so their seconds can be compared.
"""

import signal
from collections.abc import Mapping
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path

from tqdm.contrib.logging import logging_redirect_tqdm

from echo.config import DataSettings, RunConfig, load_run_config
from echo.data.build import build_corpus
from echo.data.corpora.stream import AnyCorpus
from echo.support.errors import ConfigError, StoppedError
from echo.support.signals import StopRequest
from echo.train.run import folder_of_its_own, resumed_trainer, started_trainer
from echo.train.start import is_config_of
from echo.train.state import random_state, restore_random_state


class Contestant:
    """A training with its own state of the random generators, as if it ran alone."""

    def __init__(self, config: RunConfig, run: Path, corpus: AnyCorpus, title: str) -> None:
        """Starts the run, or resumes it."""
        is_there = (run / "config.yaml").exists()
        self.trainer = (
            resumed_trainer(run, corpus) if is_there else started_trainer(config, run, corpus)
        )
        self.title = title
        self.random = random_state()
        self.done = False

    def enter(self, stack: ExitStack, request: StopRequest) -> None:
        """Opens the training; the stack closes it."""
        self.steps = stack.enter_context(closing(self.trainer.steps(request, self.title)))

    def take_turn(self, turn: int) -> None:
        """Trains `turn` steps: fewer at the end, and one if it is asked to stop."""
        restore_random_state(self.random)
        try:
            self.done = sum(1 for _ in islice(self.steps, turn)) < turn
        except StoppedError:
            self.done = True
        self.random = random_state()


def read_corpora(runs: Mapping[Path, RunConfig]) -> dict[Path, AnyCorpus]:
    """Returns the corpus of each run, by run folder. Runs with the same seed and settings of data
    share one, so that data are read once."""
    read: list[tuple[int, DataSettings, AnyCorpus]] = []
    corpora = {}
    for run, config in runs.items():
        same = (corpus for seed, data, corpus in read if (seed, data) == (config.seed, config.data))
        corpora[run] = next(same, None) or build_corpus(config.data, config.seed)
        read.append((config.seed, config.data, corpora[run]))
    return corpora


def train_in_turn(
    runs: Mapping[Path, RunConfig], corpora: Mapping[Path, AnyCorpus], turn: int, out: Path
) -> None:
    """Trains all runs, by their folders in `out`, in rounds of `turn` steps each, until each has
    spent its budget. Existing runs are resumed.

    Every run gets the same losses and weights as if it were trained alone.

    Raises:
        StoppedError: a signal arrived; each run has written a checkpoint.
    """
    with ExitStack() as stack:
        for run in runs:
            stack.enter_context(folder_of_its_own(run))
        titles = [str(run.relative_to(out)) for run in runs]
        width = max(map(len, titles))  # so that their bars and lines stand below each other
        contestants = [
            Contestant(config, run, corpora[run], title.ljust(width))
            for (run, config), title in zip(runs.items(), titles, strict=True)
        ]
        request = stack.enter_context(StopRequest())
        stack.enter_context(logging_redirect_tqdm())
        for contestant in contestants:
            contestant.enter(stack, request)
        while going := [contestant for contestant in contestants if not contestant.done]:
            for contestant in going:
                contestant.take_turn(turn)
    if request.number:
        number = signal.Signals(request.number)
        message = f"{out}: stopped by {number.name}; go on by starting the same pilot again"
        raise StoppedError(message, number)


def check_folder(runs: Mapping[Path, RunConfig]) -> None:
    """Checks that existing runs have these settings."""
    for run, config in runs.items():
        there = (run / "config.yaml").exists()
        if there and not is_config_of(config, load_run_config(run)):
            raise ConfigError(f"{run}: holds a run with other settings; choose another folder")
