"""Runs a pilot: trains several models on the same data with the same budget and compares them."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from echo.data.build import build_corpus
from echo.data.utterance import evaluation_sets
from echo.pilot.contenders import Pilot
from echo.pilot.curves import draw_curves
from echo.pilot.measure import is_measured, measure_run
from echo.pilot.results import collect, run_folder
from echo.pilot.table import render
from echo.pilot.turns import check_folder, train_in_turn
from echo.support.errors import ConfigError
from echo.support.files import replace_text
from echo.support.lock import locked
from echo.train.check import check_run
from echo.train.recorder import read_metrics


def run_pilot(pilot: Pilot, out: Path) -> dict[str, Any]:
    """Trains and measures every contender with every seed; contenders with the same seed in turn.

    Writes run folders OUT/CONTENDER/seed-N, `pilot.json`, `table.md` and the curves. Started
    again, a pilot resumes; with further seeds it trains only these.

    Returns:
        The content of `pilot.json`; see `echo.pilot.results.collect`.

    Raises:
        ConfigError: the settings of a model are not allowed, which is known before data are read
            and folders written; or the folder holds runs with other settings.
        EchoError: another process works in the folder, or it cannot be written to.
        StoppedError: a signal arrived; each contender has written a checkpoint.
    """
    check_models(pilot, out)
    with locked(out):
        train_and_measure(pilot, out)
        result = collect(pilot, out)
        write_outputs(pilot, result, out)
    return result


def check_models(pilot: Pilot, out: Path) -> None:
    """Checks the settings of every contender that has a training yet to begin, before any begins.

    Raises:
        ConfigError: naming the contender, whose settings contradict each other or are not allowed.
    """
    for contender in pilot.contenders:
        runs = [run_folder(out, contender.name, seed) for seed in pilot.seeds]
        if not all((run / "config.yaml").exists() for run in runs):
            try:
                check_run(contender.config)
            except ConfigError as error:
                raise ConfigError(f"models.{contender.name}: {error}") from None


def train_and_measure(pilot: Pilot, out: Path) -> None:
    """Trains and measures what is not yet."""
    by_seed = {
        seed: {run_folder(out, c.name, seed): c.with_seed(seed) for c in pilot.contenders}
        for seed in pilot.seeds
    }
    for runs in by_seed.values():
        check_folder(runs)
    for seed, runs in by_seed.items():
        missing = {run: config for run, config in runs.items() if not is_measured(run)}
        if not missing:
            continue
        check_turns(runs, missing)
        train_in_turn(missing, pilot.turn, out)
        corpus = build_corpus(next(iter(missing.values())).data, seed)
        [utterances] = evaluation_sets(corpus.eval_utterances()).values()
        for run, config in missing.items():
            measure_run(run, config, utterances)


def check_turns(runs: Collection[Path], missing: Collection[Path]) -> None:
    """Checks that no new contender is added to trained ones, whose seconds could not be compared.

    Raises:
        ConfigError: one is.
    """
    new = [run for run in missing if not (run / "config.yaml").exists()]
    if new and len(missing) < len(runs):
        raise ConfigError(
            f"{new[0]}: the other runs with this seed are already trained, so seconds could not be "
            "compared; choose another folder"
        )


def write_outputs(pilot: Pilot, result: dict[str, Any], out: Path) -> None:
    replace_text(out / "pilot.json", json.dumps(result, indent=2) + "\n")
    replace_text(out / "table.md", render(result))
    curves = {
        c.name: [read_metrics(run_folder(out, c.name, seed)) for seed in pilot.seeds]
        for c in pilot.contenders
    }
    draw_curves(curves, out)
