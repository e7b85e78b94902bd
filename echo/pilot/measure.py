"""Measures one trained run of a pilot: its cost, its attention and its error rates."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from echo.checkpoints.load import load_model
from echo.checkpoints.run import CheckpointFolder, read_progress
from echo.config import RunConfig
from echo.data.utterance import Utterance
from echo.evaluate.evaluation import evaluate_model
from echo.pilot.memory import training_memory
from echo.support.files import read_object, replace_text
from echo.train.recorder import read_metrics

# The two decodings of a run, and the folder of each in the run's folder.
JOINT = "joint"  # by decoder and CTC head
DECODER = "decoder"  # by the decoder alone
FOLDERS = {JOINT: "evaluation", DECODER: "evaluation-decoder"}

MEASURED_FILE = "measured.json"
WATCHED = ("span", "temperature", "gain")  # of the focused blocks


@dataclass(frozen=True)
class Heard:
    """How well one utterance was transcribed."""

    id: str
    speaker: str | None
    errors: int
    words: int


def is_measured(run: Path) -> bool:
    """Whether a run was trained to the end and measured."""
    return (run / MEASURED_FILE).exists()


def measure_run(run: Path, config: RunConfig, utterances: Sequence[Utterance]) -> None:
    """Measures a run's last checkpoint. Not the best one: choosing by WER on the evaluation set
    would favour models whose WER varies more.

    Writes `evaluation/`; `evaluation-decoder/` too, if the model is decoded jointly with its CTC
    head; and, once these are complete, `measured.json`.
    """
    loaded = load_model(str(run), "last")
    progress = read_progress(CheckpointFolder(run).path("last"))
    assert progress is not None
    last = [event for event in read_metrics(run) if event["kind"] == "train"][-1]
    weights = {JOINT: config.decode.ctc_weight}
    if loaded.model.config.ctc and config.decode.ctc_weight > 0:
        weights[DECODER] = 0.0
    found: dict[str, Any] = {
        "steps": progress.step,
        "train_seconds": progress.seconds,
        "utterances_per_second": progress.utterances / progress.seconds,
        "skipped": progress.skipped,
        "final_loss": last["loss"],
        "parameters": loaded.model.num_parameters(),
        "training_memory_bytes": training_memory(run),
        "attention": watched(last),
        DECODER: None,
    }
    for decoding, weight in weights.items():
        evaluation = evaluate_model(
            loaded,
            utterances,
            replace(config.decode, ctc_weight=weight),
            config.data.on_error,
            progress=True,
        )
        evaluation.write(run / FOLDERS[decoding])
        found[decoding] = evaluation.to_dict()
    replace_text(run / MEASURED_FILE, json.dumps(found, indent=2) + "\n")


def watched(event: dict[str, Any]) -> dict[str, float] | None:
    """What training last logged of the focused blocks, as means over them; None without any."""
    found = {
        key: [value for name, value in event.items() if name.startswith(f"{key}/")]
        for key in WATCHED
    }
    return {key: fmean(values) for key, values in found.items()} if all(found.values()) else None


def read_measured(run: Path) -> dict[str, Any]:
    """What `measure_run` wrote."""
    return read_object(run / MEASURED_FILE)


def read_heard(run: Path, decoding: str) -> dict[str, Heard]:
    """The utterances of a run's evaluation, by id. A model without a CTC head has only one
    evaluation, which is by the decoder alone and serves as both."""
    folder = run / FOLDERS[decoding]
    if not folder.exists():
        folder = run / FOLDERS[JOINT]
    heard = {}
    with (folder / "utterances.jsonl").open(encoding="utf-8") as file:
        for line in map(json.loads, file):
            counts = line["wer"]
            errors = sum(counts[key] for key in ("substitutions", "deletions", "insertions"))
            heard[line["id"]] = Heard(line["id"], line["speaker"], errors, counts["reference"])
    return heard
