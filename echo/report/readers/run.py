"""Reads a training run."""

from pathlib import Path

from echo.config import DataSettings, load_run_config
from echo.data.build import build_corpus
from echo.data.named import evaluation_sources
from echo.data.utterance import all_evaluated
from echo.pilot.measure import FOLDERS, JOINT
from echo.report.groups import by_speaker_and_duration
from echo.report.readers.figures import figure
from echo.report.readers.lines import read_lines
from echo.report.readers.recordings import Recordings
from echo.report.result import Result, Run
from echo.support.files import read_object
from echo.support.provenance import read_provenance
from echo.support.settings import to_dict
from echo.train.recorder import read_metrics


def read_run(folder: Path) -> tuple[Result, Recordings]:
    """Reads a run's config and metrics, and the transcripts of a pilot's run."""
    config = load_run_config(folder)
    events = read_metrics(folder)
    name = folder.resolve().name
    evaluation = folder / FOLDERS[JOINT]
    is_measured = (evaluation / "evaluation.json").exists()
    lines = read_lines([evaluation], is_by_letters(evaluation)) if is_measured else []
    measured = [event for event in events if event["kind"] == "eval"]
    trained = [event for event in events if event["kind"] == "train"]
    rates, drawn = {}, ""
    if is_measured:
        rates = {name: read_object(evaluation / "evaluation.json")["wer"]["rate"]}
        drawn = f"over {len(lines)} utterances"
    elif measured:
        rates = {name: measured[-1]["wer"]}
        drawn = f"measured during training, at step {measured[-1]['step']}"
    last = {
        key: {name: trained[-1].get(key) if trained else None}
        for key in ("step", "seconds", "loss")
    }
    rows = [
        figure("Steps", "", last["step"], ",.0f"),
        figure("Seconds of training", "s", last["seconds"], ",.0f"),
        figure("Last training loss", "", last["loss"], ".3g"),
    ]
    result = Result(
        kind="run",
        data=data_name(config.data),
        runs=[Run(name, events=events)],
        baseline=name,
        wer="wer",
        lines=lines,
        rates=rates,
        drawn=drawn,
        figures=[row for row in rows if row],
        groups=by_speaker_and_duration(lines),
        configs={name: to_dict(config)},
        checkpoints={name: (str(folder), "last" if is_measured else "best")},
        provenance=read_provenance(folder),
    )
    return result, lambda: all_evaluated(build_corpus(config.data, config.seed).eval_utterances())


def is_by_letters(evaluation: Path) -> bool:
    """Whether an evaluation counted letters in place of words."""
    return read_object(evaluation / "evaluation.json")["normaliser"].endswith("by letters")


def data_name(data: DataSettings) -> str:
    """The name of the data that WER was measured on."""
    if data.corpus:
        return f"{data.corpus}, {data.split} set"
    return ", ".join(evaluation_sources(data).values())
