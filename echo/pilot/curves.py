"""Draws learning curves of several models as PNG files."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from echo.support.text import legend_label

Events = Sequence[Mapping[str, Any]]
Points = tuple[np.ndarray, np.ndarray]  # x and y

CURVES = {  # file name: kind of event, value, its scale, axis label, the lowest value shown
    "loss": ("train", "loss", 1.0, "training loss", 1e-3),
    "wer": ("eval", "wer", 100.0, "WER", 0.1),  # may be 0, which a logarithmic axis cannot show
}
AXES = {"steps": ("step", "training steps"), "time": ("seconds", "seconds of training")}

# Colours that colour-blind readers can tell apart (Okabe and Ito 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

ENOUGH_TICKS = 3


def draw_curves(runs: Mapping[str, Sequence[Events]], folder: Path) -> list[Path]:
    """Draws loss and WER against steps and training time: for each model a thin line per seed, and
    a thick one for their mean.

    Args:
        runs: by the model's name, the events of `metrics.jsonl` of each seed.

    Returns:
        The files written: `loss_steps.png`, `loss_time.png`, `wer_steps.png`, `wer_time.png`.
    """
    files = []
    for curve, (kind, value, scale, y_label, floor) in CURVES.items():
        for axis, (x, x_label) in AXES.items():
            figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
            shown = []
            for (name, seeds), colour in zip(runs.items(), cycle(COLOURS), strict=False):
                lines = [points(events, kind, x, value, scale, floor) for events in seeds]
                lines = [line for line in lines if len(line[0])]
                shown += [y for _, y in lines]
                draw_model(
                    axes, legend_label(name), lines, colour, marker="o" if kind == "eval" else None
                )
            axes.set(xlabel=x_label, ylabel=y_label, xlim=(0, None))
            if shown:
                scale_log(axes, np.concatenate(shown), unit=" %" if curve == "wer" else "")
                axes.legend()
            axes.grid(alpha=0.3)
            files.append(folder / f"{curve}_{axis}.png")
            figure.savefig(files[-1], dpi=120)
            plt.close(figure)
    return files


def points(events: Events, kind: str, x: str, value: str, scale: float, floor: float) -> Points:
    """The points of one run's curve. Values below the floor are raised to it."""
    found = [(e[x], max(scale * e[value], floor)) for e in events if e["kind"] == kind]
    return np.array([at for at, _ in found]), np.array([y for _, y in found])


def draw_model(
    axes: Axes, name: str, lines: Sequence[Points], colour: str, marker: str | None
) -> None:
    if len(lines) > 1:
        for x, y in lines:
            axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.5, marker=marker, markersize=2)
        marker = None  # the mean's points are not measured
    if lines:
        x, y = mean_line(lines)
        axes.plot(x, y, color=colour, linewidth=2.2, label=name, marker=marker, markersize=4)


def mean_line(lines: Sequence[Points]) -> Points:
    """The mean of several lines over their common range, at every x of any of them; the others are
    interpolated there."""
    xs = np.unique(np.concatenate([x for x, _ in lines]))
    first, last = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    xs = xs[(xs >= first) & (xs <= last)]
    return xs, np.mean([np.interp(xs, x, y) for x, y in lines], axis=0)


def scale_log(axes: Axes, values: np.ndarray, unit: str) -> None:
    """Makes the y axis logarithmic, with limits that fit the values and plain numbers as ticks."""
    low, high = values.min() / 1.15, values.max() * 1.15
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(FixedLocator(log_ticks(low, high)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}{unit}"))


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`: 1, 2 and 5 of each decade, or evenly spaced ones if the
    range holds too few of these."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
    if sum(low <= tick <= high for tick in ticks) < ENOUGH_TICKS:
        ticks = [*MaxNLocator(nbins=6, steps=[1, 2, 5, 10]).tick_values(low, high)]
    return [tick for tick in ticks if low <= tick <= high]
