"""Draws the pictures of docs/attention.md: what a trained model attends to, and the windows.

python scripts/draw/attention.py RUN RECORDING --out docs/attention
"""

import argparse
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from echo.attention.windows import AdaptiveWindow, HardWindow, span_temperature
from echo.checkpoints.load import load_model
from echo.inspect.figures import draw_panel, head_panels, time_labels
from echo.inspect.inspect import Inspection, inspect_recording
from echo.model.geometry import ENCODER_FRAME_SECONDS
from echo.support.pictures import stretched

SPANS = (0.1, 0.5, 1.0)
MAX_SPAN = 32
LENGTH = 96  # frames
WINDOWS = {
    "adaptive": AdaptiveWindow(MAX_SPAN, 8, causal=False),
    "hybrid": HardWindow(MAX_SPAN, 32, 128, causal=False),
}


def draw_views(inspection: Inspection, head: int) -> Image.Image:
    """One head of the last focused encoder layer: the log-mel, the global map, the local band."""
    *_, layer = (each for each in inspection.layers() if each.numbers.stack == "encoder")
    assert layer.local is not None, "the last encoder layer must be focused"
    time = time_labels(layer.overall.shape[1] * ENCODER_FRAME_SECONDS)
    panel = partial(draw_panel, width=700)
    title = f"log-mel: “{inspection.transcript}”"
    above = panel(title, inspection.log_mel.flip(0), 100, below=time, levels=stretched)
    views = [*head_panels(layer, panel, time, time)][2 * head : 2 * head + 2]
    return Image.fromarray(np.vstack([above, *views]))


def draw_windows() -> Image.Image:
    """Which keys each query sees through two kinds of windows, at several spans."""
    query, key = torch.arange(LENGTH)[:, None], torch.arange(LENGTH)[None]
    places = {0.0: "0", 1.0: f"{LENGTH}"}
    panel = partial(draw_panel, height=180, beside=places, levels=np.asarray, width=290)
    rows = []
    for name, rule in WINDOWS.items():
        seen = {s: rule.weights(query, key, torch.tensor(s), torch.tensor(LENGTH)) for s in SPANS}
        rows.append(
            np.hstack([panel(f"{name}, s = {s:g}", m, below=places) for s, m in seen.items()])
        )
    return Image.fromarray(np.vstack(rows))


def draw_numbers(inspection: Inspection) -> Figure:
    """Span, temperature and entropy of every layer, means over heads."""
    charts: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for layer in (each.numbers for each in inspection.layers()):
        if layer.span_positions is not None and layer.temperature is not None:
            span = layer.span_positions.mean().item()
            charts[f"span in {layer.stack} {layer.unit}"][layer.stack][layer.index] = span
            charts["temperature"][layer.stack][layer.index] = layer.temperature.mean().item()
        for branch, entropy in layer.entropy.items():
            line = charts["entropy in nats"][f"{layer.stack}, {branch}"]
            line[layer.index] = entropy.nanmean().item()
    figure = Figure((9, 2.8), layout="constrained")
    for axes, (title, lines) in zip(
        figure.subplots(1, len(charts), squeeze=False)[0], charts.items(), strict=True
    ):
        for name, values in lines.items():
            axes.plot(list(values), list(values.values()), "o-", label=name)
        axes.set(title=title, xlabel="layer", ylim=(0, None))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if len(lines) > 1:
            axes.legend(fontsize="small")
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
    draw_numbers(inspection).savefig(arguments.out / "numbers.png")
    draw_temperatures().savefig(arguments.out / "temperatures.png")
    draw_views(inspection, arguments.head).save(arguments.out / "views.png", optimize=True)
    draw_windows().save(arguments.out / "windows.png", optimize=True)


if __name__ == "__main__":
    main()
