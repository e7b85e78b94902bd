"""A comparison as a `Result`, and its Markdown: the summary, groups, and what changed most."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jiwer

from echo.evaluate.decodings import CTC
from echo.evaluate.figures import CER, MEMORY, PARAMETERS, RTFX, RTFX_EQUAL, WER
from echo.evaluate.result import Difference, Measure, Result, Run, WerName
from echo.evaluate.statistics import Resampling
from echo.evaluate.summary import render
from echo.support.text import escape_markdown, one_line, percent, table

Found = Mapping[str, Any]

# The word error rates, as a result orders and names them. The verdict goes by the first, since
# models that spell in different ways are compared.
MEASURES: dict[WerName, str] = {"wer_normalised": "WER", "wer": "WER as written"}
AVERAGE = "Average "  # over several data sets, each of which counts as much as any other
TEXTS = {"wer": "as written", "wer_normalised": "normalised"}
LINE_WIDTH = 96  # of alignments, in characters


def comparison_result(found: Found) -> Result:
    """Reads the content of `comparison.json`; see `echo.evaluate.compare`. Earlier versions wrote
    less of each model."""
    models, alone = found["models"], found.get(CTC.key)
    averaged = found.get("macro_average", found)
    average, title = AVERAGE if "sets" in found else "", MEASURES["wer_normalised"]
    called = short_names(models)
    first, *_ = names = [*called.values()]

    def of(key: str) -> dict[str, Any]:
        return {called[model["name"]]: model.get(key) for model in models}

    def error_rate(key: str) -> dict[str, float]:
        return {called[name]: one[key]["rate"] for name, one in averaged["rates"].items()}

    minutes = found.get("audio_seconds", 0) / 60
    left_out = f", {n} left out" if (n := found.get("left_out")) else ""
    length = f", {minutes:.1f} minutes" if minutes else ""
    device = f", on {found['device']}" if "device" in found else ""
    equal = of("rtfx_equal_padding")
    is_padded = any(equal.values()) and equal != of("rtfx")
    return Result(
        kind="comparison",
        data=found["data"],
        runs=[Run(name) for name in names],
        baseline=first,
        measures=[
            averaged_measure(found, called, "wer_normalised", title),
            *(
                measure(one, called, "wer_normalised", f"{title} on {name}")
                for name, one in found.get("sets", {}).items()
            ),
            averaged_measure(found, called, "wer", MEASURES["wer"]),
            *([averaged_measure(alone, called, "wer_normalised", CTC.wer)] if alone else []),
        ],
        resampling=Resampling(**{"utterances": found["utterances"], **averaged["resampling"]}),
        figures=[
            CER.of(error_rate("cer_normalised"), name=f"{average}CER"),
            CER.of(error_rate("cer"), name=f"{average}CER as written"),
            PARAMETERS.of(of("parameters")),
            MEMORY.of(of("peak_memory_bytes")),
            RTFX.of(of("rtfx"), is_cost=not is_padded),
            RTFX_EQUAL.of(equal if is_padded else {}),
        ],
        measured=[
            f"{found['utterances']} utterances{left_out}{length}{device}.",
            f"WER and CER are after {found['normaliser']}, but for those as written.",
        ],
        about={called[model["name"]]: about(model) for model in models},
        wer="wer_normalised",
        by=[*found["groups"]],
        configs={called[model["name"]]: model["config"] for model in models if "config" in model},
    )


def averaged_measure(found: Found, called: Mapping[str, str], wer: WerName, title: str) -> Measure:
    """Returns a measure as `error_rates_by_set` found it: of several data sets, their average."""
    if "sets" not in found:
        return measure(found, called, wer, title)
    return measure(found["macro_average"], called, wer, AVERAGE + title)


def measure(found: Found, called: Mapping[str, str], wer: WerName, title: str) -> Measure:
    """Returns the measure of those models that have it: not all have a CTC head."""
    rates = {called[name]: one[wer] for name, one in found["rates"].items()}
    first = next(iter(called.values()))
    differences = [
        Difference.of(called[name], first, one[wer])
        for name, one in found["differences"].items()
        if first in rates
    ]
    figure = WER.of({name: one["rate"] for name, one in rates.items()}, name=title)
    # An average is no rate of its own, and has no counts.
    counts = {name: one for name, one in rates.items() if "reference" in one}
    return Measure(figure, differences, counts)


def about(model: Found) -> dict[str, str]:
    """Where a model comes from, and how it pads."""
    found = {"source": model["source"], "checkpoint": model.get("checkpoint") or ""}
    if "padding" in model:
        to, by = model["padding"]["pad_to_seconds"], model["padding"]["added_silence"]
        padded = [f"{how} {s:g} s" for how, s in (("to", to), ("by", by)) if s]
        found["padding"] = ", ".join(padded) or "none"
    return found


def short_names(models: Sequence[Found]) -> dict[str, str]:
    """What tells the models apart in their sources' paths, by the name of their folder: runs are
    often all called seed-1. Names are as they are where paths tell nothing."""
    paths = {model["name"]: Path(model["source"]).parts for model in models}
    for end in range(1, min(map(len, paths.values())) + 1):
        found = {name: path[-end] for name, path in paths.items()}
        if len(set(found.values())) == len(found):
            return found if end > 1 else {name: name for name in paths}
    return {name: name for name in paths}


def render_comparison(found: Found) -> str:
    """Returns `comparison.md`, from the content of `comparison.json`."""
    called = short_names(found["models"])
    first = next(iter(called.values()))
    parts = [
        f"# Comparison on {escape_markdown(found['data'])}",
        render(comparison_result(found)).rstrip(),
    ]
    for column, groups in found["groups"].items():
        for wer, text in TEXTS.items():
            parts.append(f"## WER by {escape_markdown(column)}, {text}")
            parts.append(group_table(column, groups, wer, called))
    for name, utterances in found["changed"].items():
        heading = f"{escape_markdown(first)} to {escape_markdown(called[name])}"
        parts.append(f"## What changed most, from {heading}")
        parts += [render_change(utterance, [first, called[name]]) for utterance in utterances]
        if not utterances:
            parts.append("No utterance has more word errors with one than with the other.")
    return "\n\n".join(parts) + "\n"


def group_table(column: str, groups: Sequence[Found], wer: str, called: Mapping[str, str]) -> str:
    first, *_ = groups[0]["models"]
    names = [escape_markdown(called[name]) for name in groups[0]["models"]]
    return table(
        [escape_markdown(column), "utterances", "words", *names],
        [
            [
                escape_markdown(group["group"]),
                str(group["utterances"]),
                str(group["models"][first][wer]["reference"]),
                *(percent(model[wer]["rate"]) for model in group["models"].values()),
            ]
            for group in groups
        ],
    )


def render_change(utterance: Found, names: Sequence[str]) -> str:
    parts = [f"### {escape_markdown(utterance['id'])}"]
    for wer, text in TEXTS.items():
        found = utterance[wer]
        before, after = found["errors"]
        alignments = "\n\n".join(
            f"{one_line(name)}\n{align(found['reference'], hypothesis)}"
            for name, hypothesis in zip(names, found["hypotheses"], strict=True)
        )
        parts.append(f"{text}: {before} to {after} errors, words: {found['words']}")
        # Use an indented block: a transcript could contain any fence.
        parts.append(textwrap.indent(alignments.rstrip(), "    "))
    return "\n\n".join(parts)


def align(reference: str, hypothesis: str) -> str:
    """Aligns the words of both texts, in fixed-width lines: REF, HYP and the errors."""
    words = jiwer.process_words(one_line(reference), one_line(hypothesis))
    shown = jiwer.visualize_alignment(
        words, show_measures=False, skip_correct=False, line_width=LINE_WIDTH
    )
    lines = shown.splitlines()[2:]  # without jiwer's heading
    return "\n".join(line.rstrip() for line in lines if line.strip())
