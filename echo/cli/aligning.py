"""The command that aligns recordings with texts. Heavy imports stay inside."""

from pathlib import Path
from typing import Annotated

import typer

from echo.cli.options import Checkpoint, Overrides


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
    checkpoint: Checkpoint = "best",
) -> None:
    """Cut long recordings into rows to train on, by texts of them.

    Recordings and texts that cannot be used are named and left out; the exit code is then 2.
    """
    from echo.support.files import new_folder
    from echo.support.hub import check_model
    from echo.support.settings import build_with_overrides

    check_model(model)
    new_folder(out)

    from echo.transcribe.align.align import AlignSettings, aligner_of
    from echo.transcribe.align.pairs import find_pairs

    settings = build_with_overrides(AlignSettings, {}, "command line", overrides or [])
    pairs, problems = find_pairs(audio, text)

    from echo.checkpoints.load import load_model
    from echo.transcribe.align.write import align_pairs

    aligner = aligner_of(load_model(model, checkpoint, language), model, settings, int8)
    counts = align_pairs(pairs, problems, aligner, out, progress=True)
    print(counts.to_text())
    print(
        f"\nwritten to {out}/, outside of which the recordings lie: commands that read it need "
        "--allow-outside, and a run data.allow_outside=true"
    )
    if counts.left_out:
        raise typer.Exit(2)
