"""A pilot's results over all of its runs, as `pilot.json` keeps them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from echo.config import load_run_config
from echo.evaluate.decodings import DECODINGS, JOINT
from echo.evaluate.statistics import bootstrap, resampling, resampling_units
from echo.pilot.contenders import Pilot
from echo.pilot.equal_seconds import at_equal_seconds, count_ahead
from echo.pilot.measure import WATCHED, Heard, read_heard, read_measured
from echo.support.settings import to_dict
from echo.train.recorder import read_metrics

Measured = Mapping[str, dict[str, Any]]  # by seed, what `measure_run` found


def run_folder(out: Path, name: str, seed: int) -> Path:
    return out / name / f"seed-{seed}"


def collect(pilot: Pilot, out: Path) -> dict[str, Any]:
    """Returns the content of `pilot.json`, from the run folders of all contenders and seeds.

    Returns:
        `models`: for each contender what was `measured` by seed, and its mean, least and most;
        `differences`: each contender's WER less the baseline's, by decoding; `resampling`: how
        their intervals were made; `equal_seconds`: each contender beside the baseline during
        training; and the settings.
    """
    measured = {
        c.name: {str(seed): read_measured(run_folder(out, c.name, seed)) for seed in pilot.seeds}
        for c in pilot.contenders
    }
    runs = [run for by_seed in measured.values() for run in by_seed.values()]
    keys = [
        d.key
        for d in DECODINGS
        if (any if d.is_first_without else all)(bool(run.get(d.key)) for run in runs)
    ]
    others = [c.name for c in pilot.contenders if c.name != pilot.baseline]
    return {
        "seeds": pilot.seeds,
        "baseline": pilot.baseline,
        "turn": pilot.turn,
        "models": [
            {"model": name, **pool(by_seed, measured[pilot.baseline]), "measured": by_seed}
            for name, by_seed in measured.items()
        ],
        **differences(pilot, out, keys),
        "equal_seconds": {name: equal_seconds(pilot, out, name) for name in others},
        "configs": {
            c.name: to_dict(load_run_config(run_folder(out, c.name, pilot.seeds[0])))
            for c in pilot.contenders
        },
    }


def pool(runs: Measured, baseline: Measured) -> dict[str, Any]:
    """A contender's row: the mean, least and most of each figure over all seeds; None where a run
    lacks it, as runs of earlier versions may."""

    def over_seeds(*keys: str) -> dict[str, float] | None:
        return spread(nested(run, *keys) for run in runs.values())

    return {
        "parameters": next(iter(runs.values()))["parameters"],
        "training_flops_per_second": over_seeds("training_flops_per_second"),
        "steps": over_seeds("steps"),
        "step_seconds_ratio": spread(
            step_seconds(run) / step_seconds(baseline[seed]) for seed, run in runs.items()
        ),
        "train_seconds": over_seeds("train_seconds"),
        "final_loss": over_seeds("final_loss"),
        **{d.column: over_seeds(d.key, "wer", "rate") for d in DECODINGS},
        "cer": over_seeds(JOINT.key, "cer", "rate"),
        "rtfx": over_seeds(JOINT.key, "rtfx"),
        "training_memory_bytes": over_seeds("training_memory_bytes"),
        "attention": {key: over_seeds("attention", key) for key in WATCHED}
        if all(run["attention"] for run in runs.values())
        else None,
    }


def nested(found: Any, *keys: str) -> Any:
    """What lies under keys in each other; None where something lacks."""
    for key in keys:
        found = found.get(key) if found else None
    return found


def step_seconds(run: Mapping[str, Any]) -> float:
    return run["train_seconds"] / run["steps"]


def spread(values: Iterable[float | None]) -> dict[str, float] | None:
    known = [*values]
    found = [value for value in known if value is not None]
    if len(found) < len(known):
        return None
    return {"mean": fmean(found), "least": min(found), "most": max(found)}


def differences(pilot: Pilot, out: Path, decodings: Iterable[str]) -> dict[str, Any]:
    """Each contender's WER less the baseline's, pooled over seeds, with a bootstrap interval over
    utterances (or speakers) and seeds. All contenders share the same draws.

    Args:
        decodings: the keys of those to compare; see `echo.evaluate.decodings`.
    """
    names = [contender.name for contender in pilot.contenders]
    found: dict[str, Any] = {"resampling": {}, "differences": {}}
    for decoding in DECODINGS:
        if decoding.key not in decodings:
            continue
        heard = [
            [read_heard(run_folder(out, name, seed), decoding) for seed in pilot.seeds]
            for name in names
        ]
        utterances, errors = common_errors(heard)
        words = np.array([utterance.words for utterance in utterances])
        _, units = resampling_units(utterances)
        gaps = bootstrap(errors, words, units, names.index(pilot.baseline)).differences
        found["resampling"] = resampling(utterances, len(pilot.seeds))
        found["differences"][decoding.key] = {
            name: gap.to_dict()
            for name, gap in zip(names, gaps, strict=True)
            if name != pilot.baseline
        }
    return found


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
