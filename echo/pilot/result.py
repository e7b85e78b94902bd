"""A pilot's results over all of its runs: as `pilot.json` keeps them, and as a `Result`."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from echo.config import load_run_config
from echo.evaluate import figures
from echo.evaluate.decodings import DECODINGS, JOINT
from echo.evaluate.lines import in_all, word_errors
from echo.evaluate.result import Difference, Measure, Result, Run
from echo.evaluate.statistics import Resampling, bootstrap, resampling_units
from echo.pilot.contenders import Pilot
from echo.pilot.equal_seconds import at_equal_seconds, count_ahead
from echo.pilot.measure import WATCHED, read_heard, read_measured
from echo.support.settings import to_dict
from echo.train.recorder import read_metrics

Found = Mapping[str, Any]

FIGURES = {  # by their keys in a row of `pilot.json`
    "cer": figures.CER,
    "parameters": figures.PARAMETERS,
    "training_flops_per_second": figures.FLOPS,
    "steps": figures.STEPS,
    "step_seconds_ratio": figures.STEP_TIME,
    "train_seconds": figures.TRAIN_TIME,
    "training_memory_bytes": figures.TRAIN_MEMORY,
    "rtfx": figures.RTFX,
    "attention.span": figures.SPAN,
    "attention.temperature": figures.TEMPERATURE,
    "attention.gain": figures.GAIN,
}
SILENT = 0.05  # a gain below which the local branch hardly matters


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
    names = [contender.name for contender in pilot.contenders]
    measured = {
        name: {str(seed): read_measured(run_folder(out, name, seed)) for seed in pilot.seeds}
        for name in names
    }
    runs = [run for by_seed in measured.values() for run in by_seed.values()]
    keys = [
        d.key
        for d in DECODINGS
        if (any if d.is_first_without else all)(bool(run.get(d.key)) for run in runs)
    ]
    first = {name: run_folder(out, name, pilot.seeds[0]) for name in names}
    return {
        "seeds": pilot.seeds,
        "baseline": pilot.baseline,
        "turn": pilot.turn,
        "models": [
            {"model": name, **pool(by_seed, measured[pilot.baseline]), "measured": by_seed}
            for name, by_seed in measured.items()
        ],
        **differences(pilot, out, keys),
        "equal_seconds": {
            name: equal_seconds(pilot, out, name) for name in names if name != pilot.baseline
        },
        "configs": {name: to_dict(load_run_config(run)) for name, run in first.items()},
    }


def pool(runs: Mapping[str, Found], baseline: Mapping[str, Found]) -> dict[str, Any]:
    """A contender's row: the mean, least and most of each figure over all seeds; None where a run
    lacks it, as runs of earlier versions may. Both map seeds to what `measure_run` found."""

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


def step_seconds(run: Found) -> float:
    return run["train_seconds"] / run["steps"]


def spread(values: Iterable[float | None]) -> dict[str, float] | None:
    known = [*values]
    found = [value for value in known if value is not None]
    if len(found) < len(known):
        return None
    return {"mean": fmean(found), "least": min(found), "most": max(found)}


def differences(pilot: Pilot, out: Path, decodings: Collection[str]) -> dict[str, Any]:
    """Each contender's WER less the baseline's, pooled over seeds, with a bootstrap interval over
    utterances (or speakers) and seeds, by the keys of `decodings`. All contenders share the same
    draws, over the utterances that all runs transcribed."""
    names = [contender.name for contender in pilot.contenders]
    runs = [run_folder(out, name, seed) for name in names for seed in pilot.seeds]
    found: dict[str, Any] = {"resampling": {}, "differences": {}}
    for decoding in DECODINGS:
        if decoding.key not in decodings:
            continue
        rows = in_all([read_heard(run, decoding) for run in runs])
        speakers = [row[0]["speaker"] for row in rows]
        words = np.array([row[0]["wer"]["reference"] for row in rows])
        errors = np.array([[word_errors(line) for line in row] for row in rows]).T
        _, gaps = bootstrap(
            errors.reshape(len(names), len(pilot.seeds), len(rows)),
            words,
            resampling_units(speakers)[1],
            names.index(pilot.baseline),
        )
        found["resampling"] = asdict(Resampling.of(speakers, len(pilot.seeds)))
        found["differences"][decoding.key] = {
            name: gap.to_dict()
            for name, gap in zip(names, gaps, strict=True)
            if name != pilot.baseline
        }
    return found


def equal_seconds(pilot: Pilot, out: Path, name: str) -> dict[str, Any]:
    """A contender beside the baseline with the same seed, at each evaluation during training."""
    by_seed = {
        str(seed): at_equal_seconds(
            *(read_metrics(run_folder(out, each, seed)) for each in (name, pilot.baseline))
        )
        for seed in pilot.seeds
    }
    return {**count_ahead([each for seed in by_seed.values() for each in seed]), "seeds": by_seed}


def pilot_result(found: Found) -> Result:
    """Reads the content of `pilot.json`; see `collect`."""
    models, seeds = found["models"], found["seeds"]
    return Result(
        kind="pilot",
        data="",
        runs=[Run(model["model"], str(seed)) for model in models for seed in seeds],
        baseline=found["baseline"],
        measures=[
            Measure(
                figures.WER.of({m["model"]: m[decoding.column] for m in models}, name=decoding.wer),
                [
                    Difference.of(name, found["baseline"], one, len(seeds) == 1)
                    for name, one in found["differences"].get(decoding.key, {}).items()
                ],
            )
            for decoding in DECODINGS
            if decoding.column in models[0]
        ],
        resampling=Resampling(**found["resampling"]) if found["resampling"] else None,
        figures=[
            figure.of({model["model"]: nested(model, *keys.split(".")) for model in models})
            for keys, figure in FIGURES.items()
        ],
        measured=[
            f"Means (least to most) over the seeds {', '.join(map(str, seeds))}."
            if len(seeds) > 1
            else f"One seed, {seeds[0]}.",
            "Contenders were trained in turn in one process, so their seconds can be compared. The "
            "last checkpoints were measured. Memory is weights, optimiser state, gradients and "
            "activations, in a step after training on the largest batches of the first epoch.",
        ],
        remarks={
            "At equal seconds of training": [
                said_at_equal_seconds(found["baseline"], name, one)
                for name, one in found["equal_seconds"].items()
            ],
            "Silent branches": silent(models),
        },
        about={model["model"]: {} for model in models},
        configs=found["configs"],
    )


def said_at_equal_seconds(baseline: str, name: str, found: Found) -> str:
    total, ahead = found["evaluations"], found["ahead"]
    if not total:
        return f"{name}: has no evaluation after {baseline}'s first."
    text = f"{name}: ahead of {baseline} at {ahead} of {total} evaluations"
    after = found["ahead_after_seconds"]
    if 0 < ahead < total and after is not None:
        text += f"; at all after {after:.0f} s"
    return f"{text}."


def silent(models: Sequence[Found]) -> list[str]:
    """The contenders whose local branches hardly matter at the end of training."""
    return [
        f"{model['model']}: the local branch has stayed silent (gain {gain:.2f}): this is its "
        "global branch alone."
        for model in models
        if model["attention"] and (gain := model["attention"]["gain"]["mean"]) < SILENT
    ]
