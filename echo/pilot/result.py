"""A pilot as a `Result`."""

from collections.abc import Mapping, Sequence
from typing import Any

from echo.evaluate import figures
from echo.evaluate.decodings import DECODINGS, Decoding
from echo.evaluate.result import Difference, Measure, Resampling, Result, Run
from echo.pilot.results import nested

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


def pilot_result(found: Found) -> Result:
    """Reads the content of `pilot.json`; see `echo.pilot.results.collect`."""
    models, seeds = found["models"], found["seeds"]
    return Result(
        kind="pilot",
        data="",
        runs=[Run(model["model"], str(seed)) for model in models for seed in seeds],
        baseline=found["baseline"],
        measures=[
            measure(found, decoding) for decoding in DECODINGS if decoding.column in models[0]
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
                at_equal_seconds(found["baseline"], name, one)
                for name, one in found["equal_seconds"].items()
            ],
            "Silent branches": silent(models),
        },
        about={model["model"]: {} for model in models},
        configs=found["configs"],
    )


def measure(found: Found, decoding: Decoding) -> Measure:
    rates = {model["model"]: model[decoding.column] for model in found["models"]}
    return Measure(
        figures.WER.of(rates, name=decoding.wer),
        [
            Difference(
                name,
                found["baseline"],
                one["difference"],
                one["interval"],
                one["better"],
                one_seed=len(found["seeds"]) == 1,
            )
            for name, one in found["differences"].get(decoding.key, {}).items()
        ],
    )


def at_equal_seconds(baseline: str, name: str, found: Found) -> str:
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
