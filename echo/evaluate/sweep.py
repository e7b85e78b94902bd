"""Measures the means of two models' weights at several weights, and writes the best."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echo.checkpoints.load import load_model
from echo.checkpoints.merge import leader, read_parents, write_mean
from echo.config import DecodeSettings, OnError
from echo.data.utterance import Utterance
from echo.evaluate.criterion import Criterion
from echo.evaluate.evaluation import GREEDY, Evaluation, evaluate_model
from echo.model.language import Task
from echo.support.errors import ConfigError
from echo.support.files import new_folder, replace_text
from echo.support.text import escape_markdown, percent, table

SWEEP_FILE = "sweep.json"
TABLE_FILE = "sweep.md"


@dataclass(frozen=True)
class Point:
    """The mean of two models at one weight, as it was measured."""

    share: float  # of the second model
    padding: tuple[float | None, float]  # see `Parent.padding`
    evaluations: Mapping[str, Evaluation]  # by the set's name
    wer: float  # normalised, by the criterion

    @property
    def padded(self) -> str:
        """ "to 30 s", or "1 s after each"."""
        to, added = self.padding
        parts = [f"to {to:g} s"] if to is not None else []
        parts += [f"{added:g} s after each"] if added else []
        return ", ".join(parts) or "none"

    def to_dict(self) -> dict[str, Any]:
        return {
            "weight": self.share,
            "pad_to_seconds": self.padding[0],
            "added_silence": self.padding[1],
            "wer": self.wer,
            "sets": {name: found.to_dict() for name, found in self.evaluations.items()},
        }


@dataclass(frozen=True)
class Sweep:
    """All weights that were tried."""

    sources: list[str]
    criterion: Criterion
    points: list[Point]

    @property
    def best(self) -> Point:
        """The one with the lowest WER; of equal ones the first."""
        return min(self.points, key=lambda point: point.wer)

    def to_dict(self) -> dict[str, Any]:
        return {
            "models": self.sources,
            "best_by": str(self.criterion),
            "best": self.best.share,
            "weights": [point.to_dict() for point in self.points],
        }

    def table(self) -> str:
        """Markdown: a row for each weight."""
        several = len(self.criterion.weights) > 1
        names = [f"WER of {name}" if name else "WER" for name in self.points[0].evaluations]
        rows = []
        for point in self.points:
            mark = "**" if point is self.best else ""
            rates = [found.wer_normalised.rate for found in point.evaluations.values()]
            rates += [point.wer] if several else []
            cells = [f"{mark}{point.share:g}{mark}", point.padded]
            rows.append([*cells, *map(percent, rates)])
        last = [str(self.criterion)] if several else []
        return table(["weight", "padding", *names, *last], rows, texts=2)

    def render(self) -> str:
        """Markdown: the table, and what it says."""
        first, second = map(escape_markdown, self.sources)
        return (
            f"Weights between {first} (0) and {second} (1), normalised WER; the best is "
            f"{self.best.share:g}.\n\n{self.table()}\n"
        )


def sweep(
    models: Sequence[str],
    shares: Sequence[float],
    sets: Mapping[str, Sequence[Utterance]],
    criterion: Criterion,
    out: Path,
    which: str = "best",
    settings: DecodeSettings = GREEDY,
    on_error: OnError = "raise",
    language: str | None = None,
    task: Task | None = None,
    progress: bool = False,
) -> Sweep:
    """Measures the mean of two models on sets by name at each weight of the second, and writes the
    best, by normalised WER, as a model's folder, with `sweep.json` and `sweep.md`.

    Each mean pads as the model that it is nearer to, in the middle as the second: near a Whisper it
    needs the 30 s that this was trained with, and near a fine-tuned model it does not.

    Raises:
        EchoError: there are not two models, the folder is in use, or data cannot be used.
    """
    if len(models) != 2:
        raise ConfigError(f"--sweep is between two models, not {len(models)}")
    if not shares or not all(0 <= share <= 1 for share in shares):
        raise ConfigError("--sweep must be numbers from 0 to 1")
    new_folder(out)
    parents = read_parents(models, which)
    points = []
    for share in shares:
        both = (1 - share, share)
        with tempfile.TemporaryDirectory(dir=out.absolute().parent) as folder:
            mean = Path(folder) / "mean"
            write_mean(parents, both, mean)
            loaded = load_model(mean, language=language, task=task)
            evaluations = {
                name: evaluate_model(loaded, utterances, settings, on_error, progress)
                for name, utterances in sets.items()
            }
        wers = {name: found.wer_normalised.rate for name, found in evaluations.items()}
        padding = leader(parents, both).padding
        points.append(Point(share, padding, evaluations, criterion.wer(wers)))
    found = Sweep([*models], criterion, points)
    best = (1 - found.best.share, found.best.share)
    write_mean(parents, best, out, f"## Weights\n\n{found.table()}")
    replace_text(out / TABLE_FILE, found.render())
    replace_text(out / SWEEP_FILE, json.dumps(found.to_dict(), indent=2) + "\n")
    return found
