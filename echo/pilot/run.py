"""Runs a pilot: trains several models on the same data with the same budget and compares them."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from echo.evaluate.summary import render
from echo.pilot.contenders import Pilot
from echo.pilot.measure import is_measured, measure_run
from echo.pilot.result import collect, pilot_result, run_folder
from echo.pilot.turns import check_folder, read_corpora, train_in_turn
from echo.support.errors import ConfigError
from echo.support.files import check_reserved, replace_text
from echo.support.lock import locked
from echo.train.check import check_run


def run_pilot(pilot: Pilot, out: Path) -> dict[str, Any]:
    """Trains and measures every contender with every seed; contenders with the same seed in turn.

    Writes run folders OUT/CONTENDER/seed-N, `pilot.json` and `table.md`. Started again, a
    pilot resumes; with further seeds it trains only these. Returns what `collect` does.

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
        replace_text(out / "pilot.json", json.dumps(result, indent=2) + "\n")
        replace_text(out / "table.md", render(pilot_result(result)))
    return result


def check_models(pilot: Pilot, out: Path) -> None:
    """Checks the settings of every contender that is yet to be trained, and the names in the
    folder, before any training."""
    check_reserved(out)
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
    for runs in by_seed.values():
        missing = {run: config for run, config in runs.items() if not is_measured(run)}
        if not missing:
            continue
        check_turns(runs, missing)
        corpora = read_corpora(missing)
        train_in_turn(missing, corpora, pilot.turn, out)
        for run, config in missing.items():
            measure_run(run, config, corpora[run])


def check_turns(runs: Collection[Path], missing: Collection[Path]) -> None:
    """Checks that none is added to trained ones, since their seconds could not be compared."""
    new = [run for run in missing if not (run / "config.yaml").exists()]
    if new and len(missing) < len(runs):
        raise ConfigError(
            f"{new[0]}: the other runs with this seed are already trained, so seconds could not be "
            "compared; choose another folder"
        )
