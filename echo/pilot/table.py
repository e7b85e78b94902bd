"""Renders a pilot's results as Markdown: the table, and sentences on who is better and how
certain that is."""

from collections.abc import Mapping
from typing import Any

from echo.pilot.measure import DECODER, JOINT
from echo.support.text import escape_markdown, table

Found = Mapping[str, Any]

SILENT = 0.05  # a gain below which the local branch hardly matters
FEW_SEEDS = 10  # fewer say little about how much other seeds would differ
DECODINGS = {JOINT: "by WER", DECODER: "by WER of the decoder alone"}


def render(result: Found) -> str:
    """The content of `table.md`.

    Args:
        result: the content of `pilot.json`; see `echo.pilot.results.collect`.
    """
    parts = [model_table(result), explanation(result)]
    for decoding, found in result["differences"].items():
        lines = [difference(result, name, one) for name, one in found.items()]
        parts += section(
            f"Against {escape_markdown(result['baseline'])}, {DECODINGS[decoding]}", lines
        )
    parts += section(
        "At equal seconds of training",
        [at_equal_seconds(result, name, one) for name, one in result["equal_seconds"].items()],
    )
    parts += section("Silent branches", silent(result))
    return "\n\n".join(part for part in parts if part) + "\n"


def section(title: str, lines: list[str]) -> list[str]:
    return [f"## {title}", "\n".join(f"- {line}" for line in lines)] if lines else []


def model_table(result: Found) -> str:
    """A row for each contender, without the columns that are empty for all."""
    rows = [cells(model) for model in result["models"]]
    shown = [key for key in rows[0] if any(row[key] != "-" for row in rows)]
    return table(shown, [[row[key] for key in shown] for row in rows])


def cells(model: Found) -> dict[str, str]:
    attention = model["attention"] or {}
    return {
        "model": escape_markdown(model["model"]),
        "parameters": f"{model['parameters'] / 1e6:.2f} M",
        "steps": spread(model["steps"], ".0f"),
        "time a step": spread(model["step_seconds_ratio"], ".2f"),
        "training s": spread(model["train_seconds"], ".0f"),
        "memory MB": spread(model["training_memory_bytes"], ".0f", 1e-6),
        "WER %": spread(model["wer"], ".2f", 100),
        "WER %, decoder alone": spread(model["wer_decoder"], ".2f", 100),
        "CER %": spread(model["cer"], ".2f", 100),
        "RTFx": spread(model["rtfx"], ".0f"),
        "span": spread(attention.get("span"), ".2f"),
        "temperature": spread(attention.get("temperature"), ".2f"),
        "gain": spread(attention.get("gain"), ".2f"),
    }


def spread(values: Found | None, form: str, scale: float = 1) -> str:
    """ "mean (least to most)", or just the mean if all are equal."""
    if values is None:
        return "-"
    mean, least, most = (f"{scale * values[key]:{form}}" for key in ("mean", "least", "most"))
    return mean if least == most else f"{mean} ({least} to {most})"


def explanation(result: Found) -> str:
    seeds = result["seeds"]
    sentences = [
        f"Means (least to most) over the seeds {', '.join(map(str, seeds))}."
        if len(seeds) > 1
        else f"One seed, {seeds[0]}.",
        "Contenders were trained in turn in one process, so their seconds can be compared; *time a "
        f"step* is relative to {escape_markdown(result['baseline'])}'s. The last checkpoints were "
        "measured.",
    ]
    if any(model["training_memory_bytes"] for model in result["models"]):
        sentences.append(
            "*Memory* is the peak of one training step after training, on the largest batches of "
            "the first epoch: weights, optimiser state, gradients and activations."
        )
    if any(model["attention"] for model in result["models"]):
        sentences.append("*Span*, *temperature* and *gain* are means over the focused blocks.")
    if 1 < len(seeds) < FEW_SEEDS:
        sentences.append(
            "The intervals below resample the seeds; with so few seeds they are too narrow."
        )
    return " ".join(sentences)


def difference(result: Found, name: str, found: Found) -> str:
    """ "echo: 1.80 points better than whisper (95 % interval 0.90 to 2.60, ...)"."""
    points = 100 * found["difference"]
    worse = points > 0
    sign = 100 if worse else -100
    verdict = f"{abs(points):.2f} points {'worse' if worse else 'better'} than"
    if points == 0:
        verdict = "the same WER as"
    text = f"{escape_markdown(name)}: {verdict} {escape_markdown(result['baseline'])}"
    resampling = result["resampling"]
    if found["interval"] is None:
        return f"{text}; one {resampling['unit']} does not say how sure that is."
    low, high = sorted(sign * end for end in found["interval"])
    return (
        f"{text} ({100 * resampling['level']:g} % interval {low:.2f} to {high:.2f}, "
        f"{drawn(resampling)}); better in {100 * found['better']:.1f} % of resamples."
    )


def drawn(resampling: Found) -> str:
    """What was resampled for the interval."""
    utterances = f"{resampling['utterances']} utterances"
    if resampling["unit"] == "speaker":
        utterances += f" of {resampling['units']} speakers"
    if resampling["seeds"] == 1:
        return f"over {utterances}; one seed, so not over seeds"
    return f"over {resampling['seeds']} seeds and {utterances}"


def at_equal_seconds(result: Found, name: str, found: Found) -> str:
    name, baseline = escape_markdown(name), escape_markdown(result["baseline"])
    total, ahead = found["evaluations"], found["ahead"]
    if not total:
        return f"{name}: has no evaluation after {baseline}'s first."
    text = f"{name}: ahead of {baseline} at {ahead} of {total} evaluations"
    after = found["ahead_after_seconds"]
    if 0 < ahead < total and after is not None:
        text += f"; at all after {after:.0f} s"
    return f"{text}."


def silent(result: Found) -> list[str]:
    """The contenders whose local branches hardly matter at the end of training."""
    return [
        f"{escape_markdown(model['model'])}: the local branch has stayed silent (gain "
        f"{gain:.2f}): this is its global branch alone."
        for model in result["models"]
        if model["attention"] and (gain := model["attention"]["gain"]["mean"]) < SILENT
    ]
