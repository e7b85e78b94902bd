"""Reads a pilot."""

from pathlib import Path
from typing import Any

from echo.config import load_run_config
from echo.data.build import build_corpus
from echo.data.utterance import all_evaluated
from echo.pilot.measure import FOLDERS, JOINT
from echo.pilot.results import run_folder
from echo.pilot.table import drawn
from echo.report.groups import by_speaker_and_duration
from echo.report.readers.figures import RTFX, figure
from echo.report.readers.lines import read_lines
from echo.report.readers.recordings import Recordings
from echo.report.readers.run import data_name, is_by_letters
from echo.report.result import Difference, Figure, Result, Run
from echo.support.files import read_object
from echo.support.provenance import read_provenance
from echo.train.recorder import read_metrics


def read_pilot(folder: Path) -> tuple[Result, Recordings]:
    """Reads `pilot.json` and the run folders beside it."""
    found = read_object(folder / "pilot.json")
    names = [model["model"] for model in found["models"]]
    runs, folders = [], []
    for name in names:
        for seed in found["seeds"]:
            run = run_folder(folder, name, seed)
            runs.append(Run(name, str(seed), read_metrics(run)))
            folders.append(run)
    config = load_run_config(folders[0])
    evaluations = [run / FOLDERS[JOINT] for run in folders]
    by_letters = is_by_letters(evaluations[0])
    lines = read_lines(evaluations, by_letters)
    result = Result(
        kind="pilot",
        data=data_name(config.data),
        runs=runs,
        baseline=found["baseline"],
        wer="wer",
        lines=lines,
        rates={model["model"]: model["wer"]["mean"] for model in found["models"]},
        differences=differences(found),
        drawn=drawn(found["resampling"]) if found["resampling"] else "",
        figures=figures(found["models"]),
        groups=by_speaker_and_duration(lines),
        configs=found["configs"],
        checkpoints={
            name: (str(run_folder(folder, name, found["seeds"][0])), "last") for name in names
        },
        provenance=read_provenance(folders[0]),
    )
    seed = found["seeds"][0]
    return result, lambda: all_evaluated(build_corpus(config.data, seed).eval_utterances())


def differences(found: dict[str, Any]) -> list[Difference]:
    one_seed = len(found["seeds"]) == 1
    return [
        Difference(
            name, found["baseline"], one["difference"], one["interval"], one["better"], one_seed
        )
        for name, one in found["differences"].get(JOINT, {}).items()
    ]


def figures(models: list[dict[str, Any]]) -> list[Figure]:
    def of(key: str) -> dict[str, Any]:
        return {model["model"]: model.get(key) for model in models}

    rows = [
        figure("Parameters", "M", of("parameters"), ".2f", 1e-6, is_cost=True),
        figure("Time of training", "s", of("train_seconds"), ",.0f", is_cost=True),
        figure("Memory in training", "MB", of("training_memory_bytes"), ",.0f", 1e-6, is_cost=True),
        figure("RTFx", "", of("rtfx"), ".0f", note=RTFX, is_cost=True),
        figure("Character error rate", "%", of("cer"), ".2f", 100),
        figure("WER of the decoder alone", "%", of("wer_decoder"), ".2f", 100),
    ]
    return [row for row in rows if row]
