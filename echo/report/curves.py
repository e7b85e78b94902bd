"""Learning curves of several runs as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from echo.report.mathtext import label

Events = Sequence[Mapping[str, Any]]

CURVES = {  # file name: kind of event, value, its scale, axis label
    "loss": ("train", "loss", 1.0, "training loss"),
    "wer": ("eval", "wer", 100.0, "WER (%)"),
}
AXES = {"steps": ("step", "training steps"), "time": ("seconds", "seconds of training")}


def draw_curves(runs: Mapping[str, Events], folder: Path) -> list[Path]:
    """Draws loss and WER against steps and against training time, a line for each run.

    Args:
        runs: by name, the events of `metrics.jsonl`.

    Returns:
        The files written: `loss_steps.png`, `loss_time.png`, `wer_steps.png`, `wer_time.png`.
    """
    files = []
    for curve, (kind, value, scale, y_label) in CURVES.items():
        for axis, (x, x_label) in AXES.items():
            figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
            for name, events in runs.items():
                points = [(e[x], scale * e[value]) for e in events if e["kind"] == kind]
                axes.plot(
                    [p[0] for p in points],
                    [p[1] for p in points],
                    label=label(name),
                    marker="o" if kind == "eval" else None,
                    markersize=4,
                )
            axes.set(xlabel=x_label, ylabel=y_label, yscale="log" if curve == "loss" else "linear")
            if curve == "wer":
                axes.set_ylim(0, 105)
            axes.grid(alpha=0.3)
            axes.legend()
            files.append(folder / f"{curve}_{axis}.png")
            figure.savefig(files[-1], dpi=120)
            plt.close(figure)
    return files
