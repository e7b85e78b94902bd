"""The commands that average and merge weights. Heavy imports stay inside."""

from pathlib import Path
from typing import Annotated

import typer

from echo.cli.options import (
    AllowOutside,
    AudioColumn,
    Beams,
    Checkpoint,
    Language,
    RunFolder,
    SkipErrors,
    SpeakerColumn,
    Task,
    TextColumn,
    check_models,
    read_options,
    read_sources,
)
from echo.support.errors import ConfigError
from echo.support.text import brief, read_numbers

# Of `average`, so that it can answer what is now `merge`.
TAKES_ALL = {"allow_extra_args": True, "ignore_unknown_options": True}
WITHOUT_SWEEP = {"models", "weights", "out", "checkpoint"}  # what --weights uses


def average(
    context: typer.Context,
    run: RunFolder,
    best: Annotated[
        int, typer.Option(min=1, help="Number of the run's checkpoints to average, by WER.")
    ] = 5,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; by default RUN/average-N.")
    ] = None,
) -> None:
    """Average the weights of a run's best checkpoints."""
    if context.args:
        raise ConfigError(
            f"average takes one run, --best and --out, not {brief(context.args[0])}; to mix "
            "models, use: echo-asr merge A B --weights 0.5,0.5 --out OUT"
        )

    from echo.checkpoints.merge import average_run

    out = out or run / f"average-{best}"
    checkpoints = average_run(run, best, out)
    print(f"The mean of {', '.join(path.name for path in checkpoints)} is in {out}/")


def merge(
    context: typer.Context,
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="Runs, models' folders or hub ids, all of one shape."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write, which is new or empty.")],
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
    """Mix models of one shape by the weighted mean of their weights.

    'merge A B --weights 0.5,0.5 --out OUT' writes one mean. 'merge A B --sweep 0,0.25,0.5,0.75,1
    --data own=dev.jsonl --data general=libri.jsonl --out OUT' measures five and writes the best.
    """
    if weights is not None and sweep is not None:
        raise ConfigError("--weights writes one mean and --sweep measures several: leave one out")
    check_models(models, checkpoint)
    if sweep is None:
        if weights is None:
            raise ConfigError("merge needs --weights, as 0.5,0.5, or --sweep")
        check_without_sweep(context)
        shares = read_numbers(weights, "--weights", float)

        from echo.checkpoints.merge import merge_models

        leader = merge_models(models, shares, out, checkpoint)
        print(f"The mean is in {out}/; it pads and generates as {leader.source} does")
        return

    from echo.data.named import check_named
    from echo.evaluate.criterion import read_criterion
    from echo.support.files import new_folder

    shares = read_numbers(sweep, "--sweep", float)
    if not data:
        raise ConfigError("--sweep needs --data to measure on, such as --data own=dev.jsonl")
    sources = read_sources(data)
    for source in sources.values():
        check_named(source)
    criterion = read_criterion(best_by, list(sources), "--best-by")
    new_folder(out)

    from echo.config import DecodeSettings
    from echo.data.loading import sample
    from echo.data.sources import read_source
    from echo.evaluate.sweep import sweep as measure

    options = read_options(audio_column, text_column, speaker_column, skip_errors, allow_outside)
    sets = {}
    for name, source in sources.items():
        found = read_source(source, options)
        sets[name] = sample(found, utterances or len(found))
    settings = DecodeSettings(beams=beams)
    result = measure(
        models,
        shares,
        sets,
        criterion,
        out,
        checkpoint,
        settings,
        options.on_error,
        language,
        task,
        True,
    )
    print(result.render())
    print(f"The best, with sweep.json and sweep.md, is in {out}/")


def check_without_sweep(context: typer.Context) -> None:
    """Raises ConfigError where an option was given that only --sweep uses."""
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in WITHOUT_SWEEP and source is not None and source.name == "COMMANDLINE":
            raise ConfigError(f"{parameter.opts[0]} has no effect without --sweep: leave it out")
