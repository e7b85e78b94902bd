"""Reads a comparison."""

from pathlib import Path
from typing import Any

from echo.report.groups import by_speaker_and_duration
from echo.report.readers.figures import RTFX, figure
from echo.report.readers.lines import read_lines
from echo.report.readers.recordings import Recordings
from echo.report.readers.source import read_again
from echo.report.result import Difference, Figure, Result, Run, WerName
from echo.support.files import read_object
from echo.support.provenance import read_provenance

WER: WerName = "wer_normalised"  # models that spell in different ways are compared


def read_comparison(folder: Path) -> tuple[Result, Recordings]:
    """Reads `comparison.json` and the models' folders beside it."""
    found = read_object(folder / "comparison.json")
    models = found["models"]
    folders = [folder / model["name"] for model in models]
    called = short_names(models)
    names = [*called.values()]
    provenance = read_provenance(folder)
    by_letters = found["normaliser"].endswith("by letters")
    lines = read_lines(folders, by_letters)
    result = Result(
        kind="comparison",
        data=found["data"],
        runs=[Run(name) for name in names],
        baseline=names[0],
        wer=WER,
        lines=lines,
        rates={called[name]: rates[WER]["rate"] for name, rates in found["rates"].items()},
        differences=[
            Difference(
                called[name],
                names[0],
                one[WER]["difference"],
                one[WER]["interval"],
                one[WER]["better"],
            )
            for name, one in found["differences"].items()
        ],
        drawn=drawn(found),
        figures=figures(models, called, found["rates"]),
        groups=by_speaker_and_duration(lines),
        by=[*found["groups"]],
        configs={called[model["name"]]: model["config"] for model in models if "config" in model},
        checkpoints={
            called[model["name"]]: (model["source"], provenance["which"])
            for model in models
            if provenance
        },
        provenance={
            **provenance,
            "settings": {"decoding": found["decode"], "normaliser": found["normaliser"]},
            "models": {
                called[model["name"]]: " ".join(
                    filter(None, [model["source"], model.get("checkpoint")])
                )
                for model in models
            },
        },
    )
    return result, lambda: read_again(provenance.get("source", {"data": found["data"]}))


def drawn(found: dict[str, Any]) -> str:
    """What the intervals are over."""
    resampling = found["resampling"]
    text = f"over {found['utterances']} utterances"
    return f"{text} of {resampling['units']} speakers" if resampling["unit"] == "speaker" else text


def figures(
    models: list[dict[str, Any]], called: dict[str, str], rates: dict[str, Any]
) -> list[Figure]:
    def of(key: str) -> dict[str, Any]:
        return {called[model["name"]]: model.get(key) for model in models}

    def error_rate(key: str) -> dict[str, float]:
        return {called[name]: found[key]["rate"] for name, found in rates.items()}

    equal = of("rtfx_equal_padding")
    is_padded = any(equal.values()) and equal != of("rtfx")
    rows = [
        figure("Parameters", "M", of("parameters"), ".2f", 1e-6, is_cost=True),
        figure("Memory", "MB", of("peak_memory_bytes"), ",.0f", 1e-6, "peak in transcribing", True),
        figure("RTFx", "", of("rtfx"), ".1f", note=RTFX, is_cost=not is_padded),
        figure(
            "RTFx at equal padding", "", equal, ".1f", note="as the first one pads", is_cost=True
        )
        if is_padded
        else None,
        figure("WER as written", "%", error_rate("wer"), ".2f", 100, "with case and punctuation"),
        figure("Character error rate", "%", error_rate("cer_normalised"), ".2f", 100),
    ]
    return [row for row in rows if row]


def short_names(models: list[dict[str, Any]]) -> dict[str, str]:
    """What tells the models apart in their sources' paths, by the name of their folder: runs are
    often all called seed-1. Names are as they are where paths tell nothing."""
    paths = {model["name"]: Path(model["source"]).parts for model in models}
    if len({path[-1:] for path in paths.values()}) == len(paths):
        return {name: name for name in paths}
    shortest = min(map(len, paths.values()))
    for end in range(2, shortest + 1):
        found = {name: path[-end] for name, path in paths.items()}
        if len(set(found.values())) == len(found):
            return found
    return {name: name for name in paths}
