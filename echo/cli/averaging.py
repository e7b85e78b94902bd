"""The command that averages weights. Heavy imports stay inside."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from echo.cli.options import (
    AllowOutside,
    AudioColumn,
    Beams,
    Checkpoint,
    Language,
    SkipErrors,
    SpeakerColumn,
    Task,
    TextColumn,
    read_options,
)
from echo.support.errors import ConfigError
from echo.support.text import brief, read_numbers

CHECKPOINTS = {"models", "best", "out"}  # what averaging a run's checkpoints uses
WEIGHTED = {"models", "best", "weights", "out", "checkpoint"}  # what --weights uses


def average(
    context: typer.Context,
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN|MODEL...",
            help="A run, whose best checkpoints are averaged; or runs, models' folders or hub ids "
            "of one shape, with --weights or --sweep.",
        ),
    ],
    best: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of a single run's checkpoints to average, by WER; by default 5."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="W,W,...", help="Weight of each model, from 0 to 1, which add up to 1."
        ),
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option(
            metavar="W,W,...",
            help="Weights of the second of two models, all of which are measured on --data; the "
            "best is written.",
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]SOURCE",
            help="Data set that --sweep measures on, a manifest, table, folder or hub id; may be "
            "given again, with names.",
        ),
    ] = None,
    best_by: Annotated[
        str | None,
        typer.Option(
            help="Data set whose normalised WER --sweep chooses by, or a weighted mean, as 'own + "
            "0.5 general'; by default the first."
        ),
    ] = None,
    utterances: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of utterances of each data set that --sweep decodes; by default all.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write; by default RUN/average-N of a single run."),
    ] = None,
    checkpoint: Checkpoint = "best",
    language: Language = None,
    task: Task = None,
    beams: Beams = 1,
    audio_column: AudioColumn = None,
    text_column: TextColumn = None,
    speaker_column: SpeakerColumn = None,
    skip_errors: SkipErrors = False,
    allow_outside: AllowOutside = False,
) -> None:
    """Average the weights of a run's best checkpoints, or of several models.

    'average A B --weights 0.5,0.5 --out OUT' writes the mean of two models. 'average A B --sweep
    0,0.25,0.5,0.75,1 --data own=dev.jsonl --data general=libri.jsonl --out OUT' measures five
    means and writes the best.
    """
    from echo.checkpoints.named import check_model

    if weights is not None and sweep is not None:
        raise ConfigError("--weights writes one mean and --sweep measures several: leave one out")
    if sweep is None:
        check_unused(context, WEIGHTED if weights is not None else CHECKPOINTS)
    if weights is None and sweep is None:
        if len(models) > 1:
            raise ConfigError("several models need --weights, as 0.5,0.5, or --sweep")
        average_checkpoints(Path(models[0]), best or 5, out)
        return
    if best is not None:
        raise ConfigError("--best is for a single run without --weights: leave it out")
    if out is None:
        raise ConfigError("--out must name the folder to write")
    for model in models:
        check_model(model)
    if weights is not None:
        write_average(models, read_numbers(weights, "--weights", float), out, checkpoint)
        return
    shares = read_numbers(sweep or "", "--sweep", float)
    sources = read_sources(data or [])

    from echo.data.named import check_named
    from echo.evaluate.criterion import read_criterion
    from echo.support.files import new_folder

    for source in sources.values():
        check_named(source)
    criterion = read_criterion(best_by, list(sources), "--best-by")
    new_folder(out)

    from echo.checkpoints.interpolate import read_parents
    from echo.config import DecodeSettings
    from echo.data.loading import sample
    from echo.data.sources import read_source
    from echo.evaluate.sweep import sweep as measure

    options = read_options(audio_column, text_column, speaker_column, skip_errors, allow_outside)
    sets = {}
    for name, source in sources.items():
        found = read_source(source, options)
        sets[name] = sample(found, utterances or len(found))
    result = measure(
        read_parents(models, checkpoint),
        shares,
        sets,
        criterion,
        out,
        DecodeSettings(beams=beams),
        options.on_error,
        language,
        task,
        progress=True,
    )
    print(result.render())
    print(f"The best, with sweep.json and sweep.md, is in {out}/")


def check_unused(context: typer.Context, used: Collection[str]) -> None:
    """Checks that no option was given but those that are used.

    Raises:
        ConfigError: one was.
    """
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in used and source is not None and source.name == "COMMANDLINE":
            wanted = "--weights or --sweep" if name == "checkpoint" else "--sweep"
            raise ConfigError(f"{parameter.opts[0]} has no effect without {wanted}: leave it out")


def average_checkpoints(run: Path, best: int, out: Path | None) -> None:
    from echo.checkpoints.average import average_run

    out = out or run / f"average-{best}"
    checkpoints = average_run(run, best, out)
    print(f"The mean of {', '.join(path.name for path in checkpoints)} is in {out}/")


def write_average(models: list[str], shares: list[float], out: Path, checkpoint: str) -> None:
    from echo.checkpoints.interpolate import check_shares, leader, read_parents, write_mean

    check_shares(shares, len(models), "--weights")
    parents = read_parents(models, checkpoint)
    write_mean(parents, shares, out)
    print(f"The mean is in {out}/; it pads and generates as {leader(parents, shares).source} does")


def read_sources(named: list[str]) -> dict[str, str]:
    """Data sets by name, of NAME=SOURCE; a single one needs no name.

    Raises:
        ConfigError: there is none, or one of several has no name of its own.
    """
    from echo.config import SET_NAME

    sources: dict[str, str] = {}
    for text in named:
        name, equals, source = text.partition("=")
        if not equals or not SET_NAME.fullmatch(name):
            name, source = "", text
        if name in sources or (not name and len(named) > 1):
            raise ConfigError(f"--data {brief(text)!r}: each of several needs a name, NAME=SOURCE")
        sources[name] = source
    if not sources:
        raise ConfigError("--sweep needs --data to measure on, as --data own=dev.jsonl")
    return sources
