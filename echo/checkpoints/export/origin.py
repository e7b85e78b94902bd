"""What the card of an exported model says of where it comes from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from transformers import WhisperConfig

from echo.checkpoints.card import CARD_FILE, MeasuredWer, without_folders
from echo.checkpoints.run import read_progress
from echo.config import load_run_config
from echo.data.named import evaluation_sources
from echo.model.model import EchoConfig
from echo.support.hub import hub_name


@dataclass(frozen=True)
class Origin:
    """What is known of where a model comes from."""

    name: str
    base_model: str | None = None
    licence: str | None = None
    evaluated: str = "evaluation"  # what its WER was measured on


def find_origin(source: str, folder: Path) -> Origin:
    """Reads what the model's own card, its run's config, and the base model's card say.

    Args:
        source: as it was given: a run, a folder or a hub id.
        folder: where the model lies.
    """
    run = Path(source)
    told = card_data(folder)
    if not (run / "config.yaml").exists():
        name = hub_name(source)
        base = name or told.get("base_model")
        return Origin(source if name else run.resolve().name, base, told.get("license"))
    config = load_run_config(run)
    licence = told.get("license") or (config.init and card_data(Path(config.init)).get("license"))
    sets = ", ".join(map(without_folders, evaluation_sources(config.data).values()))
    return Origin(run.resolve().name, hub_name(config.init), licence, sets or Origin.evaluated)


def card_data(folder: Path) -> dict[str, Any]:
    """Reads the front matter of a folder's card; empty where there is none that can be read."""
    try:
        return ModelCard.load(folder / CARD_FILE, ignore_metadata_errors=True).data.to_dict()
    except (OSError, ValueError):
        return {}


def natural_length_note(config: WhisperConfig) -> str:
    """Returns what users of a model trained without padding to 30 s must know; else nothing."""
    if not isinstance(config, EchoConfig) or config.pad_to_seconds:
        return ""
    return (
        "Trained on recordings at their natural length. Tools made for Whisper pad them to 30 s, "
        "so measure it with the tool that will run it."
    )


def training_wer(checkpoint: Path) -> list[MeasuredWer]:
    """Returns the WER that training measured of a run's checkpoint; none for other models."""
    progress = read_progress(checkpoint)
    if progress is None or progress.wer is None or progress.wer_step != progress.step:
        return []
    most = load_run_config(checkpoint.parent.parent).train.eval_utterances
    return [MeasuredWer("WER in training", progress.wer, f"at most {most}")]
