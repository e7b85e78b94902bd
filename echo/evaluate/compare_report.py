"""Renders a comparison of models as Markdown."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import jiwer

from echo.support.text import escape_markdown, one_line, percent, table

TEXTS = {"wer": "as written", "wer_normalised": "normalised"}
LINE_WIDTH = 96  # of alignments, in characters

Found = Mapping[str, Any]


def render_comparison(comparison: Found) -> str:
    """Renders the whole report.

    Args:
        comparison: the content of `comparison.json`; see `echo.evaluate.compare`.
    """
    first = comparison["models"][0]["name"]
    parts = [f"# Comparison on {escape_markdown(comparison['data'])}", render_summary(comparison)]
    for column, groups in comparison["groups"].items():
        for wer, text in TEXTS.items():
            parts.append(f"## WER by {escape_markdown(column)}, {text}")
            parts.append(group_table(column, groups, wer))
    for name, utterances in comparison["changed"].items():
        parts.append(
            f"## What changed most, from {escape_markdown(first)} to {escape_markdown(name)}"
        )
        parts += [render_change(utterance, [first, name]) for utterance in utterances]
        if not utterances:
            parts.append("No utterance has more word errors with one than with the other.")
    return "\n\n".join(parts) + "\n"


def render_summary(comparison: Found) -> str:
    """Says what was measured, shows the tables of models, errors and differences, and explains
    them."""
    left_out = f", {n} left out" if (n := comparison["left_out"]) else ""
    minutes = comparison["audio_seconds"] / 60
    return "\n\n".join(
        [
            f"{comparison['utterances']} utterances{left_out}, {minutes:.1f} minutes, "
            f"on {escape_markdown(comparison['device'])}.",
            model_table(comparison["models"]),
            error_table(comparison["rates"]),
            difference_table(comparison["models"][0]["name"], comparison["differences"]),
            explanation(comparison["resampling"], comparison["normaliser"]),
        ]
    )


def model_table(models: Sequence[Found]) -> str:
    return table(
        [
            "model",
            "source",
            "checkpoint",
            "padding",
            "parameters",
            "peak memory",
            "RTFx",
            "RTFx, equal padding",
        ],
        [
            [
                escape_markdown(model["name"]),
                escape_markdown(model["source"]),
                escape_markdown(model["checkpoint"] or ""),
                padding(**model["padding"]),
                f"{model['parameters'] / 1e6:.2f} M",
                f"{model['peak_memory_bytes'] / 1e6:.0f} MB",
                f"{model['rtfx']:.1f}",
                "" if (equal := model["rtfx_equal_padding"]) is None else f"{equal:.1f}",
            ]
            for model in models
        ],
        texts=4,
    )


def padding(pad_to_seconds: float, added_silence: float) -> str:
    """Describes in words how audio is padded."""
    to = [f"to {pad_to_seconds:g} s"] if pad_to_seconds else []
    by = [f"by {added_silence:g} s"] if added_silence else []
    return ", ".join(to + by) or "none"


def error_table(rates: Mapping[str, Found]) -> str:
    return table(
        ["model", "text", "WER", "interval", "ins", "del", "sub", "words", "CER"],
        [
            [
                escape_markdown(name),
                text,
                percent(found[wer]["rate"]),
                span(found[wer]["interval"], ".2f"),
                *(str(found[wer][key]) for key in ("insertions", "deletions", "substitutions")),
                str(found[wer]["reference"]),
                percent(found[wer.replace("wer", "cer")]["rate"]),
            ]
            for name, found in rates.items()
            for wer, text in TEXTS.items()
        ],
        texts=2,
    )


def difference_table(first: str, differences: Mapping[str, Found]) -> str:
    return table(
        [f"against {escape_markdown(first)}", "text", "WER, in points", "interval", "better"],
        [
            [
                escape_markdown(name),
                text,
                f"{100 * found[wer]['difference']:+.2f}",
                span(found[wer]["interval"], "+.2f"),
                "" if found[wer]["better"] is None else f"{100 * found[wer]['better']:.1f} %",
            ]
            for name, found in differences.items()
            for wer, text in TEXTS.items()
        ],
        texts=2,
    )


def explanation(resampling: Found, normaliser: str) -> str:
    unit = resampling["unit"]
    if resampling["units"] == 1:
        sure = f"There is only one {unit}, so nothing says how sure these figures are."
    else:
        sure = (
            f"Intervals hold {100 * resampling['level']:g} % of {resampling['resamples']:,} "
            f"bootstrap resamples of the {resampling['units']} {unit}s; *better* is the share of "
            "resamples in which the model's WER is lower than the first model's. Ties count half."
        )
    return (
        f"*Normalised* is after {normaliser}. Peak memory is the weights plus everything that "
        f"decoding allocates. *Equal padding* is the first model's padding. {sure}"
    )


def group_table(column: str, groups: Sequence[Found], wer: str) -> str:
    return table(
        [
            escape_markdown(column),
            "utterances",
            "words",
            *map(escape_markdown, groups[0]["models"]),
        ],
        [
            [
                escape_markdown(group["group"]),
                str(group["utterances"]),
                str(counts[0]["reference"]),
                *(percent(count["rate"]) for count in counts),
            ]
            for group in groups
            for counts in [[model[wer] for model in group["models"].values()]]
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


def span(interval: Sequence[float] | None, form: str) -> str:
    return "" if interval is None else " to ".join(f"{100 * end:{form}}" for end in interval)
