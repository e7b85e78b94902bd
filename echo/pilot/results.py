"""A pilot's results over all of its runs, and how certain they are."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from echo.config import load_run_config
from echo.evaluate.differences import difference, resampling, resampling_units
from echo.evaluate.statistics import resampled_rates
from echo.pilot.contenders import Pilot
from echo.pilot.equal_seconds import at_equal_seconds, count_ahead
from echo.pilot.measure import DECODER, JOINT, WATCHED, Heard, read_heard, read_measured
from echo.support.settings import to_dict
from echo.train.recorder import read_metrics

Measured = Mapping[str, dict[str, Any]]  # by seed, what `measure_run` found


def run_folder(out: Path, name: str, seed: int) -> Path:
    return out / name / f"seed-{seed}"


def collect(pilot: Pilot, out: Path) -> dict[str, Any]:
    """The content of `pilot.json`, from the run folders of all contenders and seeds.

    Returns:
        `models`: for each contender what was `measured` by seed, and its mean, least and most;
        `differences`: each contender's WER less the baseline's, in both decodings;
        `resampling`: how their intervals were made; `equal_seconds`: each contender beside the
        baseline during training; and the settings.
    """
    measured = {
        c.name: {str(seed): read_measured(run_folder(out, c.name, seed)) for seed in pilot.seeds}
        for c in pilot.contenders
    }
    by_decoder = any(run[DECODER] for runs in measured.values() for run in runs.values())
    others = [c.name for c in pilot.contenders if c.name != pilot.baseline]
    return {
        "seeds": pilot.seeds,
        "baseline": pilot.baseline,
        "turn": pilot.turn,
        "models": [
            {"model": name, **pool(runs, measured[pilot.baseline]), "measured": runs}
            for name, runs in measured.items()
        ],
        **differences(pilot, out, by_decoder),
        "equal_seconds": {name: equal_seconds(pilot, out, name) for name in others},
        "configs": {
            c.name: to_dict(load_run_config(run_folder(out, c.name, pilot.seeds[0])))
            for c in pilot.contenders
        },
    }


def pool(runs: Measured, baseline: Measured) -> dict[str, Any]:
    """A contender's row: the mean, least and most of each figure over all seeds."""
    found: dict[str, Any] = {
        "parameters": next(iter(runs.values()))["parameters"],
        "steps": spread(run["steps"] for run in runs.values()),
        "step_seconds_ratio": spread(
            step_seconds(run) / step_seconds(baseline[seed]) for seed, run in runs.items()
        ),
        "train_seconds": spread(run["train_seconds"] for run in runs.values()),
        "final_loss": spread(run["final_loss"] for run in runs.values()),
        "wer": spread(run[JOINT]["wer"]["rate"] for run in runs.values()),
        "wer_decoder": None,
        "cer": spread(run[JOINT]["cer"]["rate"] for run in runs.values()),
        "rtfx": spread(run[JOINT]["rtfx"] for run in runs.values()),
        "training_memory_bytes": None,
        "attention": None,
    }
    if all(run.get("training_memory_bytes") for run in runs.values()):  # older runs lack it
        found["training_memory_bytes"] = spread(
            run["training_memory_bytes"] for run in runs.values()
        )
    if all(run[DECODER] for run in runs.values()):
        found["wer_decoder"] = spread(run[DECODER]["wer"]["rate"] for run in runs.values())
    if all(run["attention"] for run in runs.values()):
        found["attention"] = {
            key: spread(run["attention"][key] for run in runs.values()) for key in WATCHED
        }
    return found


def step_seconds(run: Mapping[str, Any]) -> float:
    return run["train_seconds"] / run["steps"]


def spread(values: Iterable[float]) -> dict[str, float]:
    values = list(values)
    return {"mean": fmean(values), "least": min(values), "most": max(values)}


def differences(pilot: Pilot, out: Path, by_decoder: bool) -> dict[str, Any]:
    """Each contender's WER less the baseline's, pooled over seeds, with a bootstrap interval over
    utterances (or speakers) and seeds. All contenders share the same draws.

    Args:
        by_decoder: whether any contender was also decoded without its CTC head.
    """
    names = [contender.name for contender in pilot.contenders]
    base = names.index(pilot.baseline)
    found: dict[str, Any] = {}
    drawing: dict[str, Any] = {}
    for decoding in (JOINT, DECODER) if by_decoder else (JOINT,):
        heard = [
            [read_heard(run_folder(out, name, seed), decoding) for seed in pilot.seeds]
            for name in names
        ]
        utterances, errors = common_errors(heard)
        words = np.array([utterance.words for utterance in utterances])
        unit, units = resampling_units(utterances)
        count = len(set(units))
        drawing = {
            **resampling(unit, count),
            "utterances": len(utterances),
            "seeds": len(pilot.seeds),
        }
        rates = errors.sum((1, 2)) / max(len(pilot.seeds) * words.sum(), 1)
        drawn = resampled_rates(errors, words, units)
        found[decoding] = {
            name: difference(float(rates[i] - rates[base]), drawn[i] - drawn[base], count)
            for i, name in enumerate(names)
            if i != base
        }
    return {"resampling": drawing, "differences": found}


def common_errors(heard: list[list[dict[str, Heard]]]) -> tuple[list[Heard], np.ndarray]:
    """The utterances that all runs transcribed, and the word errors in them, an array of shape
    (models, seeds, utterances)."""
    everything = [run for runs in heard for run in runs]
    ids = [id for id in everything[0] if all(id in run for run in everything)]
    errors = np.array([[[run[id].errors for id in ids] for run in runs] for runs in heard])
    return [everything[0][id] for id in ids], errors


def equal_seconds(pilot: Pilot, out: Path, name: str) -> dict[str, Any]:
    """A contender beside the baseline with the same seed, at each evaluation during training."""
    by_seed = {
        str(seed): at_equal_seconds(
            read_metrics(run_folder(out, name, seed)),
            read_metrics(run_folder(out, pilot.baseline, seed)),
        )
        for seed in pilot.seeds
    }
    return {
        **count_ahead([evaluation for seed in by_seed.values() for evaluation in seed]),
        "seeds": by_seed,
    }
