"""Commands by which a model gives recordings texts. Heavy imports stay inside."""

import logging
from dataclasses import replace
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
    Overrides,
    SpeakerColumn,
    TextColumn,
    Vad,
    check_models,
    read_options,
)


def label(
    data: Annotated[
        str, typer.Argument(metavar="DATA|FOLDER", help=f"{DATA_HELP} Or a folder of recordings.")
    ],
    model: Annotated[str, typer.Option(help="A run's folder, a model's folder, or a hub id.")],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for the labels: a new one, or that of labels to go on with, whose models "
            "and settings were the same."
        ),
    ],
    second: Annotated[
        str | None,
        typer.Option(
            help="A second model, whose agreement with each label is written; by default none."
        ),
    ] = None,
    rows: Annotated[
        int,
        typer.Option(min=1, help="Number of rows in a shard; tar shards stay as they are."),
    ] = 1000,
    part: Annotated[
        str,
        typer.Option(help="The part of the shards to label, such as 3/40 in an array of 40 jobs."),
    ] = "1/1",
    language: Language = None,
    vad: Vad = "energy",
    checkpoint: Checkpoint = "best",
    beams: Beams = 1,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Number of recordings transcribed together.")
    ] = 16,
    audio_column: AudioColumn = None,
    text_column: TextColumn = None,
    speaker_column: SpeakerColumn = None,
    allow_outside: AllowOutside = False,
) -> None:
    """Write what a model hears in recordings, most of which may have no text, as a manifest.

    Texts that are there stay. Rows that cannot be used are named and left out; the exit code is
    then 2.
    """
    from echo.data.named import check_named
    from echo.support.launch import is_main_process

    check_named(data)
    check_models((model, second) if second else (model,), checkpoint)
    # Each process has shards of its own, and tells what is wrong with them.
    logging.getLogger("echo").setLevel(logging.INFO)

    from echo.transcribe.label.label import Part, label_source
    from echo.transcribe.label.shards import MANIFEST
    from echo.transcribe.transcribe import TranscribeSettings

    options = read_options(audio_column, text_column, speaker_column, True, allow_outside)
    found = label_source(
        data,
        out,
        replace(options, columns=replace(options.columns, needs_text=False)),
        model,
        second,
        checkpoint,
        TranscribeSettings(beams, language, batch_size=batch_size, vad=vad),
        rows,
        Part.read(part),
        progress=is_main_process(),
    )
    print(found.to_text())
    if found.complete:
        print(f"every shard has its labels: {out / MANIFEST} holds them all")
    if found.left_out:
        raise typer.Exit(2)


def align(
    audio: Annotated[
        Path, typer.Argument(help="A recording of any length, or a folder of recordings.")
    ],
    text: Annotated[
        Path,
        typer.Argument(
            help="Its text, as TXT, SRT, VTT, ASS, CTM or TextGrid, or a folder of texts with the "
            "names of the recordings."
        ),
    ],
    model: Annotated[str, typer.Option(help="A run's folder, a model's folder, or a hub id.")],
    out: Annotated[
        Path, typer.Option(help="Folder to write, new or empty, with the rows that are kept.")
    ],
    overrides: Overrides = None,
    language: Annotated[
        str | None,
        typer.Option(
            help="Language of the recordings, such as de or german; a multilingual model needs it."
        ),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="Transcribe with linear layers in 8-bit integers, faster on a CPU."
        ),
    ] = False,
    vad: Vad = "energy",
    checkpoint: Checkpoint = "best",
) -> None:
    """Cut long recordings into rows to train on, by texts of them.

    Recordings and texts that cannot be used are named and left out; the exit code is then 2.
    """
    from echo.support.files import new_folder
    from echo.support.settings import build_with_overrides

    check_models([model], checkpoint)
    new_folder(out)

    from echo.transcribe.align.align import AlignSettings, aligner_of
    from echo.transcribe.align.pairs import find_pairs

    settings = build_with_overrides(AlignSettings, {}, "command line", overrides or [])
    pairs, problems = find_pairs(audio, text)

    from echo.checkpoints.load import load_model
    from echo.transcribe.align.write import align_pairs
    from echo.transcribe.transcribe import TranscribeSettings

    hearing = TranscribeSettings(int8=int8, vad=vad)
    aligner = aligner_of(load_model(model, checkpoint, language), model, settings, hearing)
    counts = align_pairs(pairs, problems, aligner, out, progress=True)
    print(counts.to_text())
    print(
        f"\nwritten to {out}/, outside of which the recordings lie: commands that read it need "
        "--allow-outside, and a run data.allow_outside=true"
    )
    if counts.left_out:
        raise typer.Exit(2)
