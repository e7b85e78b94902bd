"""Draws the pictures of docs/attention.md: what a trained model attends to, and the windows.

python scripts/draw_attention.py RUN RECORDING --out docs/attention
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure

from echo.attention.windows import AdaptiveWindow, HardWindow, WindowRule, span_temperature
from echo.checkpoints.load import load_model
from echo.inspect.figures import (
    band_of,
    draw_bands,
    draw_log_mel,
    draw_map,
    draw_panels,
    save_maps,
)
from echo.inspect.inspect import Inspection, inspect_recording
from echo.model.geometry import ENCODER_FRAME_SECONDS

SPANS = (0.1, 0.5, 1.0)
MAX_SPAN = 32
LENGTH = 96  # frames


def draw_views(inspection: Inspection, head: int) -> Figure:
    """One head of the last focused encoder layer: the log-mel, the global map, the local band."""
    *_, layer = (each for each in inspection.layers() if each.numbers.stack == "encoder")
    assert layer.local is not None, "the last encoder layer must be focused"
    end = layer.overall.shape[1] * ENCODER_FRAME_SECONDS
    figure = Figure((7, 6.5), layout="constrained")
    mel, overall, local = figure.subplots(3, sharex=True, height_ratios=[1, 2, 1.5])
    draw_log_mel(mel, inspection)
    mel.set_title(f"log-mel: “{inspection.transcript}”", fontsize="medium")
    draw_map(overall, layer.overall[head].mT, (0, end, end, 0), "global branch")
    overall.set_ylabel("key (s)")
    draw_bands([local], layer.numbers, band_of(layer.local)[head : head + 1])
    local.set_title("local branch", fontsize="medium")
    return figure


def draw_numbers(inspection: Inspection) -> Figure:
    """Span, temperature and entropy of every layer."""
    figure = Figure((9, 2.8), layout="constrained")
    draw_panels(figure, [layer.numbers for layer in inspection.layers()])
    return figure


def draw_windows() -> Figure:
    """Which keys each query sees through two kinds of windows, at several spans."""
    figure = Figure((7, 4.6), layout="constrained")
    rules: dict[str, WindowRule] = {
        "adaptive": AdaptiveWindow(MAX_SPAN, 8, causal=False),
        "hybrid": HardWindow(MAX_SPAN, 32, 128, causal=False),
    }
    query, key = torch.arange(LENGTH)[:, None], torch.arange(LENGTH)[None]
    grid = figure.subplots(len(rules), len(SPANS), sharex=True, sharey=True)
    for line, (name, rule) in zip(grid, rules.items(), strict=True):
        for axes, span in zip(line, SPANS, strict=True):
            seen = rule.weights(query, key, torch.tensor(span), torch.tensor(LENGTH))
            axes.imshow(seen, "inferno", vmin=0, vmax=1)
            axes.set_title(f"{name}, s = {span:g}", fontsize="medium")
        line[0].set_ylabel("query (frames)")
    for axes in grid[-1]:
        axes.set_xlabel("key (frames)")
    return figure


def draw_temperatures() -> Figure:
    """The softmax temperature of each form over its span scale."""
    figure = Figure((7, 2.8), layout="constrained")
    axes = figure.subplots()
    span = torch.linspace(0, 1, 50)
    lines = {
        "hybrid, focus, adaptive: 0.5 + 0.01 s": span_temperature(span, 0.01, False),
        "the same with sharpen_longer: 1 + 0.01 (1 − s)": span_temperature(span, 0.01, True),
        "scaled: 1 − 0.1 s": 1 - 0.1 * span,
    }
    for (label, line), style in zip(lines.items(), ("-", "--", ":"), strict=True):
        axes.plot(span, line, style, label=label)
    axes.set(xlabel="span scale s", ylabel="temperature τ", ylim=(0, 1.1))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "model", help="a run, or a model's folder, whose last encoder layer focuses"
    )
    parser.add_argument("recording", type=Path)
    parser.add_argument("--head", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/attention"))
    arguments = parser.parse_args()
    inspection = inspect_recording(load_model(arguments.model), arguments.recording)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, figure in {
        "views": draw_views(inspection, arguments.head),
        "numbers": draw_numbers(inspection),
        "windows": draw_windows(),
        "temperatures": draw_temperatures(),
    }.items():
        save_maps(figure, arguments.out / f"{name}.png")


if __name__ == "__main__":
    main()
