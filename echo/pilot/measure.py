"""Measures one trained run of a pilot: its cost, its attention and its error rates."""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from echo.checkpoints.load import load_model
from echo.checkpoints.run import CheckpointFolder, read_progress
from echo.config import RunConfig
from echo.data.corpora.stream import AnyCorpus
from echo.data.utterance import evaluation_sets
from echo.evaluate.decodings import DECODINGS, JOINT, Decoding
from echo.evaluate.evaluation import evaluate_model
from echo.evaluate.lines import read_utterances
from echo.pilot.flops import training_flops
from echo.pilot.memory import training_memory
from echo.support.files import read_object, replace_text
from echo.train.recorder import read_metrics

MEASURED_FILE = "measured.json"
WATCHED = ("span", "temperature", "gain")  # of the focused blocks


def is_measured(run: Path) -> bool:
    """Whether a run was trained to the end and measured."""
    return (run / MEASURED_FILE).exists()


def measure_run(run: Path, config: RunConfig, corpus: AnyCorpus) -> None:
    """Measures a run's last checkpoint. Not the best one: choosing by WER on the evaluation set
    would favour models whose WER varies more.

    Writes the folder of each decoding that the model has, as `evaluation/`, and, once these are
    complete, `measured.json`. The run's corpus has one evaluation set.
    """
    [utterances] = evaluation_sets(corpus.eval_utterances()).values()
    loaded = load_model(str(run), "last")
    progress = read_progress(CheckpointFolder(run).path("last"))
    assert progress is not None
    last = [event for event in read_metrics(run) if event["kind"] == "train"][-1]
    found: dict[str, Any] = {
        "steps": progress.step,
        "train_seconds": progress.seconds,
        "utterances_per_second": progress.utterances / progress.seconds,
        "skipped": progress.skipped,
        "final_loss": last["loss"],
        "parameters": loaded.model.num_parameters(),
        "training_flops_per_second": training_flops(loaded.model),
        "training_memory_bytes": training_memory(run, corpus),
        "attention": watched(last),
    }
    for decoding in DECODINGS:
        settings = decoding.settings(config.decode, loaded.model.config)
        if settings is None:
            found[decoding.key] = None
            continue
        on_error = config.data.on_error
        evaluation = evaluate_model(loaded, utterances, settings, on_error, progress=True)
        evaluation.write(run / decoding.folder)
        found[decoding.key] = evaluation.to_dict()
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


def read_heard(run: Path, decoding: Decoding) -> dict[str, dict[str, Any]]:
    """Returns the utterances of a run's evaluation, by id. A model without a CTC head has only one
    evaluation, which is by the decoder alone and serves as both."""
    own = run / decoding.folder
    return read_utterances(own if own.exists() else run / JOINT.folder)
