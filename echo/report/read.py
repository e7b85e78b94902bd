"""Reads the folder of any result, whose kind a file tells, with its transcripts."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from echo.config import DataSettings, RunConfig, load_run_config
from echo.data.build import build_corpus
from echo.data.named import evaluation_sources
from echo.data.utterance import Utterance, all_evaluated
from echo.evaluate.comparison import AVERAGE, MEASURES, comparison_result
from echo.evaluate.decodings import CTC, JOINT
from echo.evaluate.figures import CER, LOSS, PARAMETERS, RTFX, STEPS, TRAIN_TIME, WER
from echo.evaluate.lines import is_by_letters, read_lines
from echo.evaluate.measure import DataSet
from echo.evaluate.result import Event, Line, Measure, Result, Run
from echo.evaluate.statistics import Resampling
from echo.pilot.result import pilot_result, run_folder
from echo.report.curves import max_spans
from echo.report.made import made
from echo.support.errors import DataError, EchoError
from echo.support.files import read_object
from echo.support.provenance import read_provenance
from echo.support.settings import to_dict
from echo.train.recorder import read_metrics

logger = logging.getLogger(__name__)

Recordings = Callable[[], Sequence[Utterance]]  # reads the data set again


def read_result(folder: Path) -> tuple[Result, Recordings]:
    """Reads what a command wrote into a folder, and how its recordings are found."""
    for name, read in READERS.items():
        if (folder / name).exists():
            try:
                result, recordings = read(folder)
                for config in result.configs.values():  # the page reads these too
                    max_spans(config)
                return replace(result, made=[*made(result.provenance)]), recordings
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
                raise DataError(f"{folder / name}: is not what Echo writes ({error!r})") from error
    raise DataError(f"{folder}: holds no result; it has none of {', '.join(READERS)}")


def read_pilot(folder: Path) -> tuple[Result, Recordings]:
    """Reads `pilot.json` and the run folders beside it."""
    found = read_object(folder / "pilot.json")
    result = pilot_result(found)
    folders = {run: run_folder(folder, run.model, int(run.seed or 0)) for run in result.runs}
    first = next(iter(folders.values()))
    config, seed = load_run_config(first), found["seeds"][0]
    result = replace(
        result,
        data=data_name(config.data),
        runs=[replace(run, events=read_metrics(path)) for run, path in folders.items()],
        lines=read_lines([path / JOINT.folder for path in folders.values()]),
        checkpoints={name: (str(run_folder(folder, name, seed)), "last") for name in result.models},
        provenance=read_provenance(first),
    )
    return result, evaluated_by(config, seed)


def read_comparison(folder: Path) -> tuple[Result, Recordings]:
    """Reads `comparison.json` and the models' folders beside it."""
    found = read_object(folder / "comparison.json")
    provenance = read_provenance(folder)
    result = comparison_result(found)
    sources = result.about.items() if provenance else ()
    settings = {"decoding": found["decode"], "normaliser": found["normaliser"]}
    folders = [folder / model["name"] for model in found["models"]]
    result = replace(
        result,
        lines=read_lines(folders, is_by_letters(found)),
        checkpoints={name: (about["source"], provenance["which"]) for name, about in sources},
        provenance={**provenance, "settings": settings},
    )
    return result, DataSet.from_provenance(provenance.get("source", {"data": found["data"]})).read


def read_evaluation(folder: Path) -> tuple[Result, Recordings]:
    """Reads `evaluation.json` and `utterances.jsonl`."""
    found = read_object(folder / "evaluation.json")
    provenance = read_provenance(folder)
    name = Path(provenance.get("model", folder.name)).name
    lines = read_lines([folder])
    source = provenance.get("source")
    data = DataSet.from_provenance(source) if source else None
    averaged = found.get("macro_average", found)
    average = AVERAGE if "sets" in found else ""
    result = Result(
        kind="evaluation",
        data=data.name if data else f"{found['utterances']} utterances",
        runs=[Run(name)],
        baseline=name,
        measures=[
            Measure(WER.of({name: one[key]["rate"]}, name=title))
            for title, key, one in evaluated(found)
        ],
        resampling=Resampling.of(
            [line.speaker for line in lines], sets=[line.set for line in lines]
        ),
        figures=[
            CER.of({name: averaged["cer_normalised"]["rate"]}, name=f"{average}CER"),
            PARAMETERS.of({name: provenance.get("parameters")}),
            RTFX.of({name: found["rtfx"]}),
        ],
        wer="wer_normalised",
        lines=lines,
        configs={name: provenance["config"]} if "config" in provenance else {},
        checkpoints={name: (provenance["model"], provenance["which"])} if provenance else {},
        provenance={**provenance, "settings": {"normaliser": found["normaliser"]}},
    )

    def recordings() -> Sequence[Utterance]:
        if data is None:
            raise DataError(f"{folder} does not say which data were evaluated")
        return data.read()

    return result, recordings


def evaluated(found: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yields the name of each WER of an evaluation, its key, and the rates that have it: of several
    data sets the averages, and after the first of them each set's."""
    averaged = found.get("macro_average", found)
    average = AVERAGE if "sets" in found else ""
    for key, title in [*MEASURES.items(), ("wer_ctc", CTC.wer)]:
        if key in averaged:
            yield average + title, key, averaged
        if key == "wer_normalised":
            for name, one in found.get("sets", {}).items():
                yield f"{title} on {name}", key, one


def read_run(folder: Path) -> tuple[Result, Recordings]:
    """Reads a run's config and metrics, and the transcripts of a pilot's run."""
    config = load_run_config(folder)
    events = read_metrics(folder)
    name = folder.resolve().name
    evaluation = folder / JOINT.folder / "evaluation.json"
    # The last of each kind.
    last: dict[str, Event] = {"train": {}, "eval": {}} | {event["kind"]: event for event in events}
    during = last["eval"]
    is_measured = evaluation.exists()
    lines = read_lines([evaluation.parent]) if is_measured else []
    rate, measured = during.get("wer"), []
    if is_measured:
        rate = read_object(evaluation)["wer"]["rate"]
    elif during:
        measured = [f"Measured during training, at step {during['step']}."]
    result = Result(
        kind="run",
        data=data_name(config.data),
        runs=[Run(name, events=events)],
        baseline=name,
        measures=[Measure(WER.of({name: rate}))],
        resampling=Resampling.of([line.speaker for line in lines]) if is_measured else None,
        figures=[
            figure.of({name: last["train"].get(key)})
            for key, figure in (("step", STEPS), ("seconds", TRAIN_TIME), ("loss", LOSS))
        ],
        measured=measured,
        lines=lines,
        configs={name: to_dict(config)},
        checkpoints={name: (str(folder), "last" if is_measured else "best")},
        provenance=read_provenance(folder),
    )
    return result, evaluated_by(config, config.seed)


READERS = {  # by the file that tells the kind
    "pilot.json": read_pilot,
    "comparison.json": read_comparison,
    "evaluation.json": read_evaluation,
    "config.yaml": read_run,
}


def evaluated_by(config: RunConfig, seed: int) -> Recordings:
    """Reads the utterances again that a run is measured on."""
    return lambda: all_evaluated(build_corpus(config.data, seed).eval_utterances())


def data_name(data: DataSettings) -> str:
    """The name of the data that WER was measured on."""
    if data.corpus:
        return f"{data.corpus}, {data.split} set"
    return ", ".join(chain(*evaluation_sources(data).values()))


def find_utterances(lines: Sequence[Line], recordings: Recordings) -> dict[str, Utterance]:
    """Returns the utterances with recordings, by id. Empty, with a warning, if the data set is
    gone; an utterance whose transcript is another by now is missing."""
    try:
        found = {utterance.id: utterance for utterance in recordings()}
    except EchoError as error:
        logger.warning("the page has no sound, because the recordings are not found: %s", error)
        return {}
    return {
        line.id: found[line.id]
        for line in lines
        if line.id in found and found[line.id].text == line.references["wer"]
    }
