"""The model card of an exported model, as the Hugging Face Hub shows it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import WhisperConfig

from echo.checkpoints.card import CARD_FILE, TASK, hub_id, without_folders
from echo.checkpoints.run import read_progress
from echo.config import RunConfig, load_run_config
from echo.data.named import evaluation_sources
from echo.model.model import EchoConfig
from echo.support.text import escape_markdown, one_line, percent, table

LIBRARIES = {"ctranslate2": "ctranslate2", "onnx": "onnx", "whisper": "transformers"}
WHAT = {
    "whisper": "in OpenAI's format for `transformers`",
    "ctranslate2": "in the CTranslate2 format, for faster-whisper",
    "ggml": "in the ggml format, for whisper.cpp",
    "onnx": "as ONNX graphs, for onnxruntime",
}
USES = {
    "whisper": f"""\
from transformers import pipeline

pipeline("{TASK}", model=".")("recording.wav", return_timestamps="word")
""",
    "ctranslate2": """\
from faster_whisper import WhisperModel

segments, _ = WhisperModel(".").transcribe("recording.wav")
print("".join(segment.text for segment in segments))
""",
    "ggml": """\
from pywhispercpp.model import Model

print(" ".join(segment.text for segment in Model("ggml-model.bin").transcribe("recording.wav")))
""",
    "onnx": """\
import onnxruntime

# `transcribe.json` says how text is asked for; scripts/transcribe_onnx.py of Echo does it.
encoder = onnxruntime.InferenceSession("encoder.onnx")
""",
}


@dataclass(frozen=True)
class MeasuredWer:
    """A word error rate of a checkpoint."""

    name: str
    rate: float  # 1 is 100 %
    utterances: str  # their number, in words where only a bound is known
    interval: tuple[float, float] | None = None  # in which it lies with 95 % confidence


@dataclass(frozen=True)
class Origin:
    """What is known of where a model comes from."""

    name: str
    base_model: str | None = None
    licence: str | None = None
    config: RunConfig | None = None  # of the run, if it is one's


def find_origin(source: str, folder: Path) -> Origin:
    """Reads what the model's own card, its run's config, and the base model's card say.

    Args:
        source: as it was given: a run, a folder or a hub id.
        folder: where the model lies.
    """
    run = Path(source)
    told = card_data(folder)
    if (run / "config.yaml").exists():
        config = load_run_config(run)
        licence = told.get("license") or (
            config.init and card_data(Path(config.init)).get("license")
        )
        return Origin(run.resolve().name, hub_id(config.init), licence, config)
    name = source if hub_id(source) else run.resolve().name
    return Origin(name, hub_id(source) or told.get("base_model"), told.get("license"))


def card_data(folder: Path) -> dict[str, Any]:
    """The front matter of a folder's card; empty where there is none that can be read."""
    try:
        return ModelCard.load(folder / CARD_FILE, ignore_metadata_errors=True).data.to_dict()
    except (OSError, ValueError):
        return {}


def natural_length_note(config: WhisperConfig) -> str:
    """What a model trained without padding to 30 s needs to be told; empty for others."""
    if not isinstance(config, EchoConfig) or config.pad_to_seconds:
        return ""
    return (
        "Trained on recordings at their natural length. Tools made for Whisper pad them to 30 s, "
        "so measure it with the tool that will run it."
    )


def training_wer(checkpoint: Path) -> list[MeasuredWer]:
    """The WER that training measured of a run's checkpoint; none of other models."""
    progress = read_progress(checkpoint)
    if progress is None or progress.wer is None or progress.wer_step != progress.step:
        return []
    most = load_run_config(checkpoint.parent.parent).train.eval_utterances
    return [MeasuredWer("WER in training", progress.wer, f"at most {most}")]


def export_card(
    origin: Origin,
    target: str,
    command: Sequence[str],
    language: str | None,
    measured: Sequence[MeasuredWer],
    note: str = "",
) -> str:
    """The card's Markdown with front matter; of a path it holds the last part alone.

    Args:
        command: what exported it.
        language: the code of what the model writes, where it is known.
    """
    sources = evaluation_sources(origin.config.data).values() if origin.config else ()
    evaluated = one_line(", ".join(map(without_folders, sources)) or "evaluation")
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type=evaluated,
            dataset_name=evaluated,
            metric_type="wer",
            metric_name=f"{wer.name} (%)",
            metric_value=round(100 * wer.rate, 2),
        )
        for wer in measured
    ]
    front = ModelCardData(
        library_name=LIBRARIES.get(target),
        pipeline_tag=TASK,
        tags=["echo", "whisper", target],
        language=language,
        license=origin.licence,
        base_model=origin.base_model,
        metrics=["wer"] if results else None,
        model_name=one_line(origin.name) if results else None,
        eval_results=results or None,
    ).to_yaml()
    parts = [
        f"# {escape_markdown(without_folders(origin.name))}",
        f"A speech recogniser {WHAT[target]}, exported by Echo.",
        note,
    ]
    if measured:
        rows = [
            [
                wer.name,
                percent(wer.rate),
                " to ".join(percent(end) for end in wer.interval or ()),
                wer.utterances,
            ]
            for wer in measured
        ]
        parts += [
            "## Word error rate",
            f"Of the model before export, on {escape_markdown(evaluated)}:",
            table(["", "WER", "95 % interval", "utterances"], rows),
        ]
    shown = " ".join(shlex.quote(without_folders(part)) for part in command)
    parts += [
        f"## Use\n\n```python\n{USES[target]}```",
        f"## Made by\n\n```sh\n{one_line(shown)}\n```\n",
    ]
    return f"---\n{front}\n---\n\n" + "\n\n".join(filter(None, parts))
