"""The model card of an exported model."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from echo.checkpoints.card import CARD_FILE, render, without_folders
from echo.checkpoints.export.target import Source, Target
from echo.checkpoints.run import read_progress
from echo.config import load_run_config
from echo.data.named import evaluation_sources
from echo.model.language import language_of_text
from echo.support.hub import hub_name
from echo.support.text import escape_markdown, one_line, percent, table


@dataclass(frozen=True)
class MeasuredWer:
    """A word error rate of a checkpoint."""

    name: str
    rate: float  # 1 is 100 %
    utterances: str  # their number, in words where only a bound is known
    interval: tuple[float, float] | None = None  # in which it lies with 95 % confidence

    def row(self) -> list[str]:
        interval = " to ".join(map(percent, self.interval or ()))
        return [self.name, percent(self.rate), interval, self.utterances]


def export_card(
    source: Source,
    target: Target,
    command: Sequence[str],
    measured: Sequence[MeasuredWer],
    note: str = "",
) -> str:
    """Returns the card's Markdown; of a path it holds the last part alone. `command` is what
    exported the model, and `measured` are error rates before that."""
    name, evaluated, front = find_origin(source.name, source.checkpoint.folder)
    parts = [f"A speech recogniser {target.about}, exported by Echo.", note]
    if measured:
        parts += [
            "## Word error rate",
            f"Of the model before export, on {escape_markdown(evaluated)}:",
            table(["", "WER", "95 % interval", "utterances"], [wer.row() for wer in measured]),
        ]
    made_by = one_line(shlex.join(map(without_folders, command)))
    return render(
        name,
        [
            *parts,
            f"## Use\n\n```python\n{target.use}```",
            f"## Made by\n\n```sh\n{made_by}\n```\n",
        ],
        [(evaluated, wer.name, wer.rate) for wer in measured],
        tags=["whisper", target.name],
        library=target.library,
        language=language_of_text(source.checkpoint.generation),
        **front,
    )


def find_origin(source: str, folder: Path) -> tuple[str, str, dict[str, Any]]:
    """Reads what the card in a model's folder and the run's config say of a source: its name, what
    its WER was measured on, and licence and base model as the hub reads them."""
    run, told = Path(source), card_data(folder)
    if not (run / "config.yaml").exists():
        found = hub_name(source)
        front = {"license": told.get("license"), "base_model": found or told.get("base_model")}
        return source if found else run.resolve().name, "evaluation", front
    config = load_run_config(run)
    if config.init and not told.get("license"):
        told = card_data(Path(config.init))
    sets = ", ".join(map(without_folders, chain(*evaluation_sources(config.data).values())))
    front = {"license": told.get("license"), "base_model": hub_name(config.init)}
    return run.resolve().name, sets or "evaluation", front


def card_data(folder: Path) -> dict[str, Any]:
    """Reads the front matter of a folder's card; empty where there is none that can be read."""
    try:
        return ModelCard.load(folder / CARD_FILE, ignore_metadata_errors=True).data.to_dict()
    except (OSError, ValueError):
        return {}


def training_wer(checkpoint: Path) -> list[MeasuredWer]:
    """Returns the WER that training measured of a run's checkpoint; none for other models."""
    progress = read_progress(checkpoint)
    if progress is None or progress.wer is None or progress.wer_step != progress.step:
        return []
    most = load_run_config(checkpoint.parent.parent).train.eval_utterances
    return [MeasuredWer("WER in training", progress.wer, f"at most {most}")]
