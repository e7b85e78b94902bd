"""Commands that use, convert and show what there is. Heavy imports stay inside."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from echo.cli.options import Beams, Checkpoint, Model, Overrides, Task, Vad, check_models


def transcribe(
    recordings: Annotated[
        list[Path],
        typer.Argument(metavar="FILE|FOLDER...", help="Recordings, or folders of them."),
    ],
    model: Annotated[str, typer.Option(help="A run's folder, a model's folder, or a hub id.")],
    out: Annotated[Path, typer.Option(help="Folder for the transcripts.")],
    formats: Annotated[
        str,
        typer.Option(
            "--format", help="Formats to write, separated by commas: txt, srt, vtt, tsv or json."
        ),
    ] = "txt",
    language: Annotated[
        str | None,
        typer.Option(
            help="Language of the recordings, such as de or german; by default a multilingual "
            "model detects it."
        ),
    ] = None,
    task: Task = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            help="Text that a Whisper treats as said before each window, to give it names and "
            "style; its last 223 tokens count; by default none."
        ),
    ] = None,
    hotwords: Annotated[
        str | None,
        typer.Option(
            help="Words that are likely to be said, put before the prompt of each window; if both "
            "do not fit, the prompt is cut; by default none."
        ),
    ] = None,
    channel: Annotated[
        Literal["left", "right", "each"] | None,
        typer.Option(
            help="Channel to transcribe alone, or each of them into files of its own (call.left, "
            "call.right), for calls with a speaker on each; by default channels are mixed."
        ),
    ] = None,
    words: Annotated[
        bool,
        typer.Option("--words", help="Time every word, for json and the cues of srt and vtt."),
    ] = False,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="Compute linear layers in 8-bit integers, which is faster on a CPU."
        ),
    ] = False,
    vad: Vad = "energy",
    max_line_width: Annotated[
        int | None,
        typer.Option(min=1, help="Most characters in a line of srt and vtt; by default 42."),
    ] = None,
    max_line_count: Annotated[
        int | None,
        typer.Option(min=1, help="Most lines in a cue of srt and vtt; by default 2."),
    ] = None,
    checkpoint: Checkpoint = "best",
    beams: Beams = 1,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Number of recordings transcribed together.")
    ] = 8,
) -> None:
    """Transcribe recordings of any length."""
    from echo.support.files import writable_folder
    from echo.transcribe.formats import read_formats

    asked = {"line_width": max_line_width, "line_count": max_line_count}
    layout = {key: value for key, value in asked.items() if value is not None}
    kinds = read_formats(formats, words, bool(layout))
    check_models([model], checkpoint)

    from echo.transcribe.recordings import find_recordings

    paths = find_recordings(recordings)
    writable_folder(out)

    from echo.checkpoints.load import load_model
    from echo.transcribe.subtitles import Layout
    from echo.transcribe.transcribe import TranscribeSettings, transcribe_into

    settings = TranscribeSettings(
        beams, language, task, words, batch_size, prompt, hotwords, int8, vad
    )
    loaded = load_model(model, checkpoint)
    transcribe_into(out, loaded, paths, kinds, settings, True, Layout(**layout), channel)
    print(f"The transcripts are in {out}/")


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A run's folder, or the folder or hub id of a model, of transformers or of "
            "CTranslate2.",
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write, which is new or empty.")],
    overrides: Overrides = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Precision of the weights, float32, float16 or bfloat16; by default the "
            "checkpoint's."
        ),
    ] = None,
    encoder_layers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of encoder layers to keep, evenly spaced with the first and the last; by "
            "default all.",
        ),
    ] = None,
    decoder_layers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of decoder layers to keep, evenly spaced with the first and the last; by "
            "default all.",
        ),
    ] = None,
    checkpoint: Checkpoint = "best",
) -> None:
    """Convert a Whisper model to an Echo model, or an Echo model of plain blocks back."""
    from echo.support.settings import apply_overrides

    check_models([source], checkpoint)
    apply_overrides({}, overrides or [])

    from echo.checkpoints.convert import convert as convert_checkpoint

    layers = {"encoder": encoder_layers, "decoder": decoder_layers}
    config = convert_checkpoint(source, out, overrides or [], dtype, checkpoint, layers)
    print(f"The {config.model_type} model is in {out}/")


def export(
    model: Model,
    out: Annotated[Path, typer.Argument(help="Folder to write, which is new or empty.")],
    target: Annotated[
        str,
        typer.Option(
            "--to",
            help="Format to write: whisper for transformers, ctranslate2 for faster-whisper, ggml "
            "for whisper.cpp, or onnx, the only one that supports focused attention.",
        ),
    ],
    quantization: Annotated[
        str | None,
        typer.Option(
            help="Precision of the weights, such as int8 or float16; by default the checkpoint's, "
            "for ggml float16, and for onnx float32."
        ),
    ] = None,
    checkpoint: Checkpoint = "best",
) -> None:
    """Write a model in the format of another tool, with a model card."""
    from echo.checkpoints.export.targets import find_target
    from echo.support.files import new_folder

    check_models([model], checkpoint)
    find_target(target, quantization)
    new_folder(out)

    from echo.checkpoints.export.export import export as export_model
    from echo.pilot.checkpoint_wer import measured_wer

    export_model(model, out, target, quantization, checkpoint, measured_wer)
    print(f"The {target} model is in {out}/")


def report(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder of a run, or of a result of pilot, compare or evaluate."),
    ],
) -> None:
    """Write report.html, a page that shows a result, into its folder."""
    from echo.report.write import write_report

    print(f"The page is {write_report(folder)}")
