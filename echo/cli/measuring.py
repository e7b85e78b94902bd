"""Commands that measure models and show what they attend to. Heavy imports stay inside."""

from pathlib import Path
from typing import Annotated

import typer

from echo.cli.options import (
    DATA_HELP,
    AllowOutside,
    AudioColumn,
    Beams,
    Checkpoint,
    Language,
    Model,
    Normaliser,
    SkipErrors,
    SpeakerColumn,
    Task,
    TextColumn,
    check_models,
    read_data_sets,
    read_options,
)
from echo.support.errors import ConfigError
from echo.support.text import brief, read_numbers, visible

DEFAULT_SNRS = "20,10,5,0"  # dB


def evaluate(
    model: Model,
    data: Annotated[str | None, typer.Argument(help=DATA_HELP)] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="NAME=SOURCE",
            help="One of several data sets, in place of DATA; may be given again.",
        ),
    ] = None,
    checkpoint: Checkpoint = "best",
    language: Language = None,
    task: Task = None,
    beams: Beams = 1,
    normaliser: Normaliser = "whisper",
    ctc_weight: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Weight of the CTC head, if there is one, in choosing tokens; by default 0.5, but "
            "0 for a head with tokens of its own.",
        ),
    ] = None,
    pad_to: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Seconds to which utterances are padded with silence; by default as in training.",
        ),
    ] = None,
    added_silence: Annotated[
        float | None,
        typer.Option(
            min=0, help="Seconds of silence after each utterance; by default as in training."
        ),
    ] = None,
    audio_column: AudioColumn = None,
    text_column: TextColumn = None,
    speaker_column: SpeakerColumn = None,
    skip_errors: SkipErrors = False,
    allow_outside: AllowOutside = False,
    noise: Annotated[
        Path | None,
        typer.Option(
            help="Folder of noise recordings; WER is also measured with them added, and they are "
            "transcribed without speech; by default there is no noise."
        ),
    ] = None,
    snr: Annotated[
        str | None,
        typer.Option(
            help="Signal-to-noise ratios of --noise in dB, separated by commas; by default "
            "20,10,5,0."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for transcripts and error rates; by default none are written."),
    ] = None,
) -> None:
    """Measure WER and CER on a data set, or on several with their average."""
    from echo.config import DecodeSettings
    from echo.data.named import check_folder
    from echo.support.files import result_folder

    snrs = read_snrs(noise, snr)
    if out:
        result_folder(out, "evaluation.json")
    if noise:
        check_folder(noise, "--noise")
    check_models([model], checkpoint)
    if bool(data) == bool(sets):
        raise ConfigError("evaluate takes one DATA, or --data NAME=SOURCE for each of several")
    sources = read_data_sets(sets or [data or ""])

    from echo.evaluate.measure import DataSet, measure_model
    from echo.report.write import write_report

    options = read_options(audio_column, text_column, speaker_column, skip_errors, allow_outside)
    data_set, settings = (
        DataSet(sources, options),
        DecodeSettings(beams=beams, ctc_weight=ctc_weight),
    )
    told = language, task, pad_to, added_silence, noise, snrs, out, normaliser
    measured = measure_model(model, data_set, checkpoint, settings, *told)
    print(measured.to_text())
    if out:
        print(f"Transcripts are in {out}/; look at {write_report(out, measured.utterances)}")


def read_snrs(noise: Path | None, snr: str | None) -> list[float]:
    """The SNRs to measure at, in dB."""
    if noise is None and snr is not None:
        raise ConfigError("--snr has no effect without --noise FOLDER")
    text = DEFAULT_SNRS if snr is None else snr
    snrs = read_numbers(text, "--snr", float)
    if len({*snrs}) < len(snrs) or not all(-100 <= each <= 100 for each in snrs):
        raise ConfigError(
            f"--snr is {brief(text)!r}, but must be different numbers from -100 to 100 separated "
            "by commas"
        )
    return snrs


def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Two or more runs, models' folders or hub ids, compared with the first."
        ),
    ],
    data: Annotated[
        list[str],
        typer.Option(metavar="[NAME=]SOURCE", help=f"{DATA_HELP} May be given again, with names."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the comparison and all transcripts.")],
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="Column to group utterances by, or speaker or duration; may be given again."
        ),
    ] = None,
    checkpoint: Checkpoint = "best",
    language: Language = None,
    task: Task = None,
    beams: Beams = 1,
    normaliser: Normaliser = "whisper",
    audio_column: AudioColumn = None,
    text_column: TextColumn = None,
    speaker_column: SpeakerColumn = None,
    skip_errors: SkipErrors = False,
    allow_outside: AllowOutside = False,
) -> None:
    """Measure models on the same data, with intervals of their differences."""
    from echo.config import DecodeSettings

    check_models(models, checkpoint)
    sources = read_data_sets(data)

    from echo.evaluate.comparison import comparison_result
    from echo.evaluate.measure import DataSet, compare_sources
    from echo.evaluate.summary import render
    from echo.report.write import write_report

    options = read_options(audio_column, text_column, speaker_column, skip_errors, allow_outside)
    data_set, settings = DataSet(sources, options), DecodeSettings(beams=beams)
    further = {"settings": settings, "by": by or [], "language": language, "task": task}
    further["normaliser"] = normaliser
    comparison, utterances = compare_sources(models, data_set, out, checkpoint, **further)
    print("\n" + render(comparison_result(comparison)))
    page = write_report(out, utterances)
    print(f"Groups, transcripts and comparison.json are in {out}/; look at {page}")


def inspect(
    model: Model,
    audio: Annotated[Path, typer.Argument(help="A recording.")],
    out: Annotated[Path, typer.Option(help="Folder for pictures, numbers and a page.")],
    checkpoint: Checkpoint = "best",
) -> None:
    """Draw what a model attends to in a recording."""
    from echo.support.files import result_folder, writing

    result_folder(out, "inspection.json")
    check_models([model], checkpoint)

    from echo.checkpoints.load import load_model
    from echo.inspect.inspect import inspect_recording
    from echo.report.inspection import write_inspection

    inspection = inspect_recording(load_model(model, checkpoint), audio)
    with writing(out):
        page = write_inspection(inspection, out)
    print(visible(inspection.transcript))
    print(f"A picture of each layer and inspection.json are in {out}/; look at {page}")
