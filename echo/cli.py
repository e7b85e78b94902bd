"""The command line. Heavy imports stay inside the commands, so that help is quick."""

import errno
import io
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from echo.support.errors import ConfigError, EchoError, StoppedElsewhere, StoppedError
from echo.support.text import visible, visible_lines

app = typer.Typer(
    help="Train Whisper-style speech recognition with focused attention.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Look at data sets.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE|FILE.yaml]...", help="Settings to change, or files that change some."
    ),
]
Checkpoint = Annotated[Literal["best", "last"], typer.Option(help="Of a run.")]
AllowOutside = Annotated[
    bool,
    typer.Option("--allow-outside", help="Take recordings from outside of the data's own folder."),
]
Language = Annotated[
    str | None, typer.Option(help="Of a multilingual model, de or german; by default as trained.")
]
Task = Annotated[
    Literal["transcribe", "translate"] | None, typer.Option(help="Of a multilingual model.")
]
Column = Annotated[str | None, typer.Option(help="If it has none of the usual names.")]


@app.command()
def pilot(
    overrides: Overrides = None,
    config: Annotated[
        Path | None, typer.Option(help="The pilot's settings; by default a small spoken corpus.")
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...", help="Seeds to train every model with; by default the config's seed."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write; by default runs/NAME_OF_CONFIG.")
    ] = None,
) -> None:
    """Train several models in turn on the same data, and say which is better and how sure that is.

    The config's 'models' says which, 'budget={seconds: 600}' or 'budget={steps: 1000}' for how
    long, and 'baseline=NAME' what they are compared with. 'models.echo.train.learning_rate=1e-3'
    changes a setting of one model; 'models.focus=configs/attention/focus.yaml' adds one.
    """
    from echo.pilot.contenders import read_pilot, read_seeds
    from echo.pilot.run import run_pilot
    from echo.pilot.table import render
    from echo.support.yaml import read_yaml

    path = config or Path("configs/pilot.yaml")
    out = out or Path("runs") / path.stem
    chosen = None if seeds is None else read_seeds(seeds)
    result = run_pilot(read_pilot(read_yaml(path), str(path), overrides or [], chosen), out)
    print("\n" + render(result))
    print(f"Curves, transcripts and pilot.json are in {out}/")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="The run's settings.")],
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder; by default runs/NAME_OF_CONFIG.")
    ] = None,
    find_batch: Annotated[
        bool, typer.Option("--find-batch", help="Only find how large batches may be.")
    ] = False,
) -> None:
    """Train a model."""
    from echo.config import load_config
    from echo.support.distributed import Processes
    from echo.train.find_batch import find_max_batch_seconds
    from echo.train.run import start_run

    with Processes.started().together():
        settings = load_config(config, overrides or [])
        if find_batch and Processes.started().world > 1:
            raise ConfigError("--find-batch tries batches out in one process")
    if find_batch:
        print(f"data.max_batch_seconds={find_max_batch_seconds(settings):.0f}")
        return
    out = out or Path("runs") / config.stem
    start_run(settings, out)
    say_trained(out)


@app.command()
def resume(run: Annotated[Path, typer.Argument(help="A run's folder.")]) -> None:
    """Go on with a run that was stopped, from its last checkpoint."""
    from echo.train.run import resume_run

    resume_run(run)
    say_trained(run)


def say_trained(run: Path) -> None:
    if is_main_process():
        print(f"Trained; the checkpoints are in {run}/checkpoints/")


def is_main_process() -> bool:
    """Whether this is the process, of those that a launcher has started, that does the talking."""
    return os.environ.get("RANK", "0") == "0"


@app.callback()
def only_training_is_shared(context: typer.Context) -> None:
    """
    Raises:
        ConfigError: several processes were started for what one does.
    """
    command = context.invoked_subcommand
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and command not in ("train", "resume"):
        raise ConfigError(f"{command} runs in one process; several share train and resume alone")


@app.command()
def average(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    best: Annotated[int, typer.Option(help="How many of its checkpoints.", min=1)] = 5,
    out: Annotated[
        Path | None, typer.Option(help="The folder to write; by default RUN/average-N.")
    ] = None,
) -> None:
    """Average the weights of a run's best checkpoints."""
    from echo.checkpoints.average import average_run

    out = out or run / f"average-{best}"
    checkpoints = average_run(run, best, out)
    print(f"The mean of {', '.join(path.name for path in checkpoints)} is in {out}/")


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A run, a model's folder, or a hub id.")],
    data: Annotated[str, typer.Argument(help="A data set; see 'data check'.")],
    checkpoint: Checkpoint = "best",
    language: Language = None,
    task: Task = None,
    beams: Annotated[int, typer.Option(help="Beams; 1 decodes greedily.")] = 1,
    ctc_weight: Annotated[
        float, typer.Option(help="Of the CTC head, if there is one, in choosing tokens.")
    ] = 0.5,
    pad_to: Annotated[
        float | None,
        typer.Option(min=0, help="Pad with silence to so many seconds; by default as trained."),
    ] = None,
    added_silence: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds of silence after each utterance; by default as trained."),
    ] = None,
    audio_column: Column = None,
    text_column: Column = None,
    speaker_column: Column = None,
    skip_errors: Annotated[bool, typer.Option(help="Skip utterances that cannot be read.")] = False,
    allow_outside: AllowOutside = False,
    out: Annotated[
        Path | None, typer.Option(help="Where to write transcripts and error rates.")
    ] = None,
) -> None:
    """Measure WER and CER on a data set."""
    from echo.checkpoints.load import load_model
    from echo.config import DecodeSettings, OnError
    from echo.data.sources import Columns, read_source
    from echo.evaluate.evaluation import evaluate_model
    from echo.support.files import result_folder
    from echo.support.settings import build

    if out:
        result_folder(out, "evaluation.json")
    settings = build(DecodeSettings, {"beams": beams, "ctc_weight": ctc_weight}, "decoding")
    on_error: OnError = "skip" if skip_errors else "raise"
    columns = Columns(audio_column, text_column, speaker_column)
    utterances = read_source(data, columns, on_error, allow_outside)
    loaded = load_model(model, checkpoint, language, task)
    if pad_to is not None:
        loaded.model.config.pad_to_seconds = pad_to
    if added_silence is not None:
        loaded.model.config.added_silence = added_silence
    evaluation = evaluate_model(
        loaded.model,
        loaded.tokenizer,
        utterances,
        settings,
        on_error,
        progress=True,
    )
    for name, counts in (
        ("WER", evaluation.wer),
        ("CER", evaluation.cer),
        ("WER, normalised", evaluation.wer_normalised),
        ("CER, normalised", evaluation.cer_normalised),
    ):
        print(
            f"{name:16} {100 * counts.rate:6.2f} %  of {counts.reference}: "
            f"{counts.insertions} ins, {counts.deletions} del, {counts.substitutions} sub"
        )
    print(f"Normalised by {evaluation.normaliser}")
    done = len(evaluation.transcripts.utterances)
    print(f"RTFx {evaluation.transcripts.rtfx:.1f}; {done} of {len(utterances)} utterances")
    if out:
        evaluation.write(out)


@app.command()
def compare(
    models: Annotated[
        list[str],
        typer.Argument(help="Two or more runs, folders, or hub ids; the first is the measure."),
    ],
    data: Annotated[str, typer.Option(help="A data set; see 'data check'.")],
    out: Annotated[Path, typer.Option(help="Where to write.")],
    by: Annotated[
        list[str] | None,
        typer.Option(help="Group by speaker, duration, or a column; may be repeated."),
    ] = None,
    checkpoint: Checkpoint = "best",
    language: Language = None,
    task: Task = None,
    beams: Annotated[int, typer.Option(help="Beams; 1 decodes greedily.")] = 1,
    audio_column: Column = None,
    text_column: Column = None,
    speaker_column: Column = None,
    skip_errors: Annotated[bool, typer.Option(help="Skip utterances that cannot be read.")] = False,
    allow_outside: AllowOutside = False,
) -> None:
    """Measure models on the same utterances, and how sure their differences are."""
    from echo.config import DecodeSettings, OnError
    from echo.data.sources import Columns, read_source
    from echo.evaluate.compare import compare_models
    from echo.evaluate.compare_report import render_summary
    from echo.support.settings import build

    on_error: OnError = "skip" if skip_errors else "raise"
    columns = Columns(audio_column, text_column, speaker_column)
    utterances = read_source(data, columns, on_error, allow_outside)
    settings = build(DecodeSettings, {"beams": beams}, "decoding")
    comparison = compare_models(
        models, data, utterances, out, settings, by or [], checkpoint, on_error, language, task
    )
    print("\n" + render_summary(comparison))
    print(f"\nGroups, what changed most, transcripts and comparison.json are in {out}/")


@app.command()
def inspect(
    model: Annotated[str, typer.Argument(help="A run, a model's folder, or a hub id.")],
    audio: Annotated[Path, typer.Argument(help="A recording.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    checkpoint: Checkpoint = "best",
) -> None:
    """Draw what a model attends to in a recording."""
    from echo.checkpoints.load import load_model
    from echo.inspect.figures import write_inspection
    from echo.inspect.inspect import inspect_recording
    from echo.support.files import result_folder, writing

    result_folder(out, "inspection.json")
    inspection = inspect_recording(load_model(model, checkpoint), audio)
    with writing(out):
        files = write_inspection(inspection, out)
    print(visible(inspection.transcript))
    print(f"{len(files) - 2} layers, summary.png and inspection.json are in {out}/")


@app.command()
def transcribe(
    recordings: Annotated[
        list[Path],
        typer.Argument(metavar="FILE|FOLDER...", help="Recordings, or folders of them."),
    ],
    model: Annotated[str, typer.Option(help="A run, a model's folder, or a hub id.")],
    out: Annotated[Path, typer.Option(help="The folder to write to.")],
    formats: Annotated[
        str, typer.Option("--format", help="Some of txt, srt, vtt, tsv and json.")
    ] = "txt",
    language: Annotated[
        str | None,
        typer.Option(help="Of the recordings, by name or code; by default what is heard."),
    ] = None,
    task: Annotated[
        Literal["transcribe", "translate"] | None, typer.Option(help="Of a multilingual model.")
    ] = None,
    words: Annotated[bool, typer.Option(help="Time every word, in json.")] = False,
    checkpoint: Checkpoint = "best",
    beams: Annotated[int, typer.Option(min=1, help="Beams; 1 decodes greedily.")] = 1,
    batch_size: Annotated[int, typer.Option(min=1, help="Recordings at a time.")] = 8,
) -> None:
    """Write down what is said in recordings of any length."""
    from echo.support.files import writable_folder
    from echo.transcribe.formats import read_formats
    from echo.transcribe.recordings import find_recordings

    kinds = read_formats(formats, words)
    paths = find_recordings(recordings)
    writable_folder(out)

    from echo.checkpoints.load import load_model
    from echo.transcribe.transcribe import TranscribeSettings, transcribe_into

    settings = TranscribeSettings(beams, language, task, words, batch_size)
    transcribe_into(out, load_model(model, checkpoint), paths, kinds, settings, progress=True)
    print(f"The transcripts are in {out}/")


@app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(metavar="WHISPER", help="A folder or hub id; CTranslate2's folders too."),
    ],
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    overrides: Overrides = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="float32, float16 or bfloat16; by default the checkpoint's."),
    ] = None,
) -> None:
    """Make a Whisper checkpoint an Echo model, or an Echo model of plain blocks a Whisper."""
    from echo.checkpoints.convert import convert as convert_checkpoint

    config = convert_checkpoint(source, out, overrides or [], dtype)
    print(f"The {config.model_type} model is in {out}/")


@data_app.command()
def check(
    data: Annotated[str, typer.Argument(help="A manifest, table, folder, or hub id.")],
    audio_column: Column = None,
    text_column: Column = None,
    speaker_column: Column = None,
    max_seconds: Annotated[float, typer.Option(help="The longest recording to accept.")] = 30.0,
    allow_outside: AllowOutside = False,
) -> None:
    """Report all problems of a data set at once."""
    from echo.data.check import check_source, format_report
    from echo.data.sources import Columns

    columns = Columns(audio_column, text_column, speaker_column)
    report = check_source(data, columns, max_seconds, allow_outside=allow_outside)
    print(format_report(report))
    if report.problems:
        raise typer.Exit(2)


@data_app.command()
def shard(
    data: Annotated[str, typer.Argument(help="A data set; see 'data check'.")],
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    format: Annotated[
        Literal["flac", "opus"], typer.Option(help="flac loses nothing; opus is a sixth as large.")
    ] = "flac",
    shard_size: Annotated[int, typer.Option(min=1, help="Utterances in a shard.")] = 1000,
    shard_seconds: Annotated[
        float, typer.Option(min=1, help="Seconds of audio in a shard.")
    ] = float("inf"),
    audio_column: Column = None,
    text_column: Column = None,
    speaker_column: Column = None,
    skip_errors: Annotated[bool, typer.Option(help="Skip utterances that cannot be read.")] = False,
    allow_outside: AllowOutside = False,
) -> None:
    """Write a data set as tar shards, which training streams."""
    from echo.data.prepare.shard import write_shards
    from echo.data.sources import Columns, scan_source

    columns = Columns(audio_column, text_column, speaker_column)
    rows = scan_source(data, columns, allow_outside, hub_stream=True)
    on_error: Literal["raise", "skip"] = "skip" if skip_errors else "raise"
    entries = write_shards(rows, out, format, shard_size, shard_seconds, on_error)
    hours = sum(entry.seconds for entry in entries) / 3600
    count = sum(entry.utterances for entry in entries)
    print(f"{count} utterances, {hours:.2f} hours, in {len(entries)} shards in {out}/")


class VisibleFormatter(logging.Formatter):
    """A line of the log with nothing in it that a terminal obeys."""

    def format(self, record: logging.LogRecord) -> str:
        return visible_lines(super().format(record))


def set_up_output() -> None:
    """Makes what is written to the terminal fit for it, whatever transcripts and names hold."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Characters it cannot show are spelled out, so that no run ends because of a font.
            stream.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler()
    handler.setFormatter(VisibleFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler])


def fail(error: object) -> None:
    print(f"echo-asr: {visible(' '.join(str(error).split()))}", file=sys.stderr)


def main() -> None:
    """Runs the command line; a user's error is one sentence and exit code 2."""
    set_up_output()
    # What all processes of a run have to say is the same, but for errors that stop one of them.
    logging.getLogger("echo").setLevel(logging.INFO if is_main_process() else logging.CRITICAL)
    # Their bars and hints to developers would break up the bar of the training.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        app()
    except StoppedElsewhere:
        sys.exit(2)
    except EchoError as error:
        fail(error)
        sys.exit(2)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        fail(f"{error.filename or 'a file'}: the disk is full")
        sys.exit(2)
    except StoppedError as stop:
        if is_main_process():
            fail(stop)
        sys.exit(128 + stop.number)  # as the shell has it for what a signal ends
