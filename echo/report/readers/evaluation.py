"""Reads the evaluation of one model."""

from collections.abc import Sequence
from pathlib import Path

from echo.data.utterance import Utterance
from echo.report.groups import by_speaker_and_duration
from echo.report.readers.figures import figure
from echo.report.readers.lines import read_lines
from echo.report.readers.recordings import Recordings
from echo.report.readers.run import is_by_letters
from echo.report.readers.source import read_again
from echo.report.result import Result, Run
from echo.support.errors import DataError
from echo.support.files import read_object
from echo.support.provenance import read_provenance


def read_evaluation(folder: Path) -> tuple[Result, Recordings]:
    """Reads `evaluation.json` and `utterances.jsonl`."""
    found = read_object(folder / "evaluation.json")
    provenance = read_provenance(folder)
    name = Path(provenance.get("model", folder.name)).name
    lines = read_lines([folder], is_by_letters(folder))
    source = provenance.get("source")
    result = Result(
        kind="evaluation",
        data=source["data"] if source else f"{found['utterances']} utterances",
        runs=[Run(name)],
        baseline=name,
        wer="wer_normalised",
        lines=lines,
        rates={name: found["wer_normalised"]["rate"]},
        drawn=f"over {found['utterances']} utterances",
        figures=[
            row
            for row in (
                figure("Parameters", "M", {name: provenance.get("parameters")}, ".2f", 1e-6),
                figure("RTFx", "", {name: found["rtfx"]}, ".1f"),
                figure("WER as written", "%", {name: found["wer"]["rate"]}, ".2f", 100),
                figure(
                    "Character error rate", "%", {name: found["cer_normalised"]["rate"]}, ".2f", 100
                ),
            )
            if row
        ],
        groups=by_speaker_and_duration(lines),
        configs={name: provenance["config"]} if "config" in provenance else {},
        checkpoints={name: (provenance["model"], provenance["which"])} if provenance else {},
        provenance={**provenance, "settings": {"normaliser": found["normaliser"]}},
    )

    def recordings() -> Sequence[Utterance]:
        if source is None:
            raise DataError(f"{folder} does not say which data were evaluated")
        return read_again(source)

    return result, recordings
