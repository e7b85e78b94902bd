"""A pilot as a `Result`."""

from collections.abc import Mapping, Sequence
from typing import Any

from echo.evaluate.comparison import RTFX
from echo.evaluate.decodings import DECODINGS, Decoding
from echo.evaluate.result import Difference, Figure, Measure, Resampling, Result, Run

Found = Mapping[str, Any]

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
        figures=figures(models, found["baseline"]),
        measured=[
            f"Means (least to most) over the seeds {', '.join(map(str, seeds))}."
            if len(seeds) > 1
            else f"One seed, {seeds[0]}.",
            "Contenders were trained in turn in one process, so their seconds can be compared. The "
            "last checkpoints were measured.",
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
        Figure.of(decoding.wer, "%", rates, ".2f", scale=100),
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


def figures(models: Sequence[Found], baseline: str) -> list[Figure]:
    def of(key: str) -> dict[str, Any]:
        return {model["model"]: model.get(key) for model in models}

    def watched(key: str) -> dict[str, Any]:
        return {name: attention and attention[key] for name, attention in of("attention").items()}

    blocks = "mean over the focused blocks"
    return [
        Figure.of("CER", "%", of("cer"), ".2f", scale=100),
        Figure.of("Parameters", "M", of("parameters"), ".2f", scale=1e-6, is_cost=True),
        Figure.of(
            "FLOPs",
            "G",
            of("training_flops_per_second"),
            ",.2f",
            scale=1e-9,
            note="operations in training for each second of audio",
            is_cost=True,
        ),
        Figure.of("Steps", "", of("steps"), ",.0f"),
        Figure.of(
            "Time per step", "", of("step_seconds_ratio"), ".2f", note=f"relative to {baseline}'s"
        ),
        Figure.of("Time of training", "s", of("train_seconds"), ",.0f", is_cost=True),
        Figure.of(
            "Memory in training",
            "MB",
            of("training_memory_bytes"),
            ",.0f",
            scale=1e-6,
            note="the peak of one step after training, on the largest batches of the first epoch: "
            "weights, optimiser state, gradients and activations",
            is_cost=True,
        ),
        Figure.of("RTFx", "", of("rtfx"), ".0f", note=RTFX, is_cost=True),
        Figure.of("Span", "", watched("span"), ".2f", note=blocks),
        Figure.of("Temperature", "", watched("temperature"), ".2f", note=blocks),
        Figure.of("Gain", "", watched("gain"), ".2f", note=blocks),
    ]


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
