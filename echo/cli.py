"""The command line. Heavy imports stay inside the commands, so that help is quick."""

import errno
import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import echo
from echo.support.errors import ConfigError, EchoError, StoppedElsewhere, StoppedError
from echo.support.text import visible, visible_lines

if TYPE_CHECKING:
    from echo.checkpoints.run import Progress
    from echo.config import OnError

app = typer.Typer(
    help="Train Whisper-style speech recognition with focused attention.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(
    help="Check and convert data sets.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(data_app, name="data")

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE|FILE.yaml]...",
        help="Settings to change, or YAML files that change some; later ones win.",
    ),
]
RunFolder = Annotated[Path, typer.Argument(help="A run's folder.")]
Model = Annotated[str, typer.Argument(help="A run's folder, a model's folder, or a hub id.")]
DATA_HELP = (
    "A manifest, table, folder, pattern of shards, hub id, or what a built-in corpus is measured "
    "on: fsdd:FOLDER or espeak:, and with @dev its dev split."
)
Data = Annotated[str, typer.Argument(help=DATA_HELP)]
Checkpoint = Annotated[
    Literal["best", "last"], typer.Option(help="Which checkpoint of a run to use.")
]
Beams = Annotated[int, typer.Option(min=1, help="Number of beams; 1 decodes greedily.")]
Language = Annotated[
    str | None,
    typer.Option(
        help="Language that a multilingual model hears, as de or german; by default the one it was "
        "trained for."
    ),
]
Task = Annotated[
    Literal["transcribe", "translate"] | None,
    typer.Option(
        help="Whether a multilingual model transcribes or translates to English; by default what "
        "it was trained for."
    ),
]
AudioColumn = Annotated[
    str | None,
    typer.Option(help="Column of the recordings; by default one of the usual names."),
]
TextColumn = Annotated[
    str | None,
    typer.Option(help="Column of the transcripts; by default one of the usual names."),
]
SpeakerColumn = Annotated[
    str | None,
    typer.Option(help="Column of the speakers; by default one of the usual names."),
]
SkipErrors = Annotated[
    bool,
    typer.Option(
        "--skip-errors", help="Log and leave out utterances that cannot be used; else one stops."
    ),
]
AllowOutside = Annotated[
    bool,
    typer.Option(
        "--allow-outside", help="Read recordings outside the folder of the data set as well."
    ),
]


@app.command()
def pilot(
    overrides: Overrides = None,
    config: Annotated[
        Path, typer.Option(help="YAML file of the pilot; the default trains on synthetic speech.")
    ] = Path("configs/pilot.yaml"),
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="Seeds with each of which every model is trained; by default the file's seed.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; by default runs/NAME_OF_CONFIG.")
    ] = None,
) -> None:
    """Train several models in turn on the same data, and compare them.

    The config's 'models' says which, 'budget={seconds: 600}' or 'budget={steps: 1000}' for how
    long, and 'baseline=NAME' what they are compared with. 'models.echo.train.learning_rate=1e-3'
    changes a setting of one model; 'models.focus=configs/attention/focus.yaml' adds one.
    """
    from echo.data.named import check_data
    from echo.pilot.contenders import read_pilot, read_seeds
    from echo.support.yaml import read_yaml

    out = out or Path("runs") / config.stem
    chosen = None if seeds is None else read_seeds(seeds)
    settings = read_pilot(read_yaml(config), str(config), overrides or [], chosen)
    check_data(settings.contenders[0].config.data)

    from echo.pilot.run import run_pilot
    from echo.pilot.table import render

    result = run_pilot(settings, out)
    print("\n" + render(result))
    print(f"Curves, transcripts and pilot.json are in {out}/")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="YAML file of the run's settings.")],
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; by default runs/NAME_OF_CONFIG.")
    ] = None,
    find_batch: Annotated[
        bool,
        typer.Option(
            "--find-batch", help="Print the largest data.max_batch_seconds that fits in memory."
        ),
    ] = False,
) -> None:
    """Train a model."""
    from echo.checkpoints.named import check_model
    from echo.config import load_config
    from echo.data.named import check_data

    with together():
        settings = load_config(config, overrides or [])
        check_data(settings.data)
        if settings.init is not None:
            check_model(settings.init)
        if find_batch and process_count() > 1:
            raise ConfigError("--find-batch tries batches out in one process")
    if find_batch:
        from echo.train.find_batch import find_max_batch_seconds

        print(f"data.max_batch_seconds={find_max_batch_seconds(settings):.0f}")
        return

    from echo.train.run import start_run

    out = out or Path("runs") / config.stem
    say_trained(out, start_run(settings, out))


@app.command()
def resume(run: RunFolder, overrides: Overrides = None) -> None:
    """Go on with a run that was stopped, from its last checkpoint, or for longer.

    'train.max_steps=4000' lets a finished run go on; what the model is cannot change.
    """
    from echo.config import load_run_config

    with together():
        load_run_config(run, overrides or [])

    from echo.train.run import resume_run

    say_trained(run, resume_run(run, overrides=overrides or []))


@contextmanager
def together() -> Iterator[None]:
    """What stops all processes if it stops one, without torch where there is only one."""
    if process_count() == 1:
        yield
        return

    from echo.support.distributed import Processes

    with Processes.started().together():
        yield


def say_trained(run: Path, progress: "Progress") -> None:
    from echo.train.summary import ending

    if is_main_process():
        print(ending(run, progress))


def is_main_process() -> bool:
    """Whether this is the main one of the processes that a launcher has started."""
    return os.environ.get("RANK", "0") == "0"


def process_count() -> int:
    """How many processes a launcher has started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def print_version(wanted: bool) -> None:
    if wanted:
        print(f"echo-asr {echo.__version__}")
        raise typer.Exit


@app.callback()
def only_training_is_shared(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """
    Raises:
        ConfigError: several processes were started for what one does.
    """
    command = context.invoked_subcommand
    if process_count() > 1 and command not in ("train", "resume"):
        raise ConfigError(f"{command} runs in one process; only train and resume run in several")


@app.command()
def average(
    run: RunFolder,
    best: Annotated[int, typer.Option(min=1, help="Number of checkpoints to average, by WER.")] = 5,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; by default RUN/average-N.")
    ] = None,
) -> None:
    """Average the weights of a run's best checkpoints."""
    from echo.checkpoints.average import average_run

    out = out or run / f"average-{best}"
    checkpoints = average_run(run, best, out)
    print(f"The mean of {', '.join(path.name for path in checkpoints)} is in {out}/")


@app.command()
def evaluate(
    model: Model,
    data: Data,
    checkpoint: Checkpoint = "best",
    language: Language = None,
    task: Task = None,
    beams: Beams = 1,
    ctc_weight: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Weight of the CTC head, if there is one, in choosing tokens."
        ),
    ] = 0.5,
    pad_to: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Seconds that every utterance is padded to with silence; by default as trained.",
        ),
    ] = None,
    added_silence: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds of silence after each utterance; by default as trained."),
    ] = None,
    audio_column: AudioColumn = None,
    text_column: TextColumn = None,
    speaker_column: SpeakerColumn = None,
    skip_errors: SkipErrors = False,
    allow_outside: AllowOutside = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for transcripts and error rates; by default none are written."),
    ] = None,
) -> None:
    """Measure WER and CER on a data set."""
    from echo.checkpoints.named import check_model
    from echo.config import DecodeSettings
    from echo.data.named import check_named
    from echo.support.files import result_folder

    if out:
        result_folder(out, "evaluation.json")
    check_model(model)
    check_named(data)

    from echo.checkpoints.load import load_model
    from echo.data.sources import Columns, read_source
    from echo.evaluate.evaluation import evaluate_model

    on_error = on_error_of(skip_errors)
    columns = Columns(audio_column, text_column, speaker_column)
    utterances = read_source(data, columns, on_error, allow_outside)
    loaded = load_model(model, checkpoint, language, task)
    evaluation = evaluate_model(
        loaded.model,
        loaded.tokenizer,
        utterances,
        DecodeSettings(beams=beams, ctc_weight=ctc_weight),
        on_error,
        progress=True,
        pad_to_seconds=pad_to,
        added_silence=added_silence,
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


def on_error_of(skip_errors: bool) -> "OnError":
    return "skip" if skip_errors else "raise"


@app.command()
def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Two or more runs, models' folders or hub ids, compared with the first."
        ),
    ],
    data: Annotated[str, typer.Option(help=DATA_HELP)],
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
    audio_column: AudioColumn = None,
    text_column: TextColumn = None,
    speaker_column: SpeakerColumn = None,
    skip_errors: SkipErrors = False,
    allow_outside: AllowOutside = False,
) -> None:
    """Measure models on the same data, with intervals of their differences."""
    from echo.checkpoints.named import check_model
    from echo.config import DecodeSettings
    from echo.data.named import check_named

    for model in models:
        check_model(model)
    check_named(data)

    from echo.data.sources import Columns, read_source
    from echo.evaluate.compare import compare_models
    from echo.evaluate.compare_report import render_summary

    on_error = on_error_of(skip_errors)
    columns = Columns(audio_column, text_column, speaker_column)
    utterances = read_source(data, columns, on_error, allow_outside)
    settings = DecodeSettings(beams=beams)
    comparison = compare_models(
        models, data, utterances, out, settings, by or [], checkpoint, on_error, language, task
    )
    print("\n" + render_summary(comparison))
    print(f"\nGroups, what changed most, transcripts and comparison.json are in {out}/")


@app.command()
def inspect(
    model: Model,
    audio: Annotated[Path, typer.Argument(help="A recording.")],
    out: Annotated[Path, typer.Option(help="Folder for figures and numbers.")],
    checkpoint: Checkpoint = "best",
) -> None:
    """Draw what a model attends to in a recording."""
    from echo.checkpoints.named import check_model
    from echo.support.files import result_folder, writing

    result_folder(out, "inspection.json")
    check_model(model)

    from echo.checkpoints.load import load_model
    from echo.inspect.figures import write_inspection
    from echo.inspect.inspect import inspect_recording

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
    model: Annotated[str, typer.Option(help="A run's folder, a model's folder, or a hub id.")],
    out: Annotated[Path, typer.Option(help="Folder for the transcripts.")],
    formats: Annotated[
        str,
        typer.Option("--format", help="Formats to write, some of txt, srt, vtt, tsv and json."),
    ] = "txt",
    language: Annotated[
        str | None,
        typer.Option(
            help="Language of the recordings, as de or german; by default a multilingual model "
            "detects it."
        ),
    ] = None,
    task: Task = None,
    words: Annotated[
        bool,
        typer.Option(
            "--words", help="Find when every word is said, for json and the cues of srt and vtt."
        ),
    ] = False,
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
        int, typer.Option(min=1, help="Number of recordings transcribed at a time.")
    ] = 8,
) -> None:
    """Write down what is said in recordings of any length."""
    from echo.checkpoints.named import check_model
    from echo.support.files import writable_folder
    from echo.transcribe.formats import read_formats

    asked = {"line_width": max_line_width, "line_count": max_line_count}
    layout = {key: value for key, value in asked.items() if value is not None}
    kinds = read_formats(formats, words, bool(layout))
    check_model(model)

    from echo.transcribe.recordings import find_recordings

    paths = find_recordings(recordings)
    writable_folder(out)

    from echo.checkpoints.load import load_model
    from echo.transcribe.subtitles import Layout
    from echo.transcribe.transcribe import TranscribeSettings, transcribe_into

    settings = TranscribeSettings(beams, language, task, words, batch_size)
    loaded = load_model(model, checkpoint)
    transcribe_into(out, loaded, paths, kinds, settings, progress=True, layout=Layout(**layout))
    print(f"The transcripts are in {out}/")


@app.command()
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
    checkpoint: Checkpoint = "best",
) -> None:
    """Convert a Whisper model to an Echo model, or one of plain blocks back."""
    from echo.checkpoints.named import check_model
    from echo.support.settings import apply_overrides

    check_model(source)
    apply_overrides({}, overrides or [])

    from echo.checkpoints.convert import convert as convert_checkpoint

    config = convert_checkpoint(source, out, overrides or [], dtype, checkpoint)
    print(f"The {config.model_type} model is in {out}/")


@data_app.command()
def check(
    data: Data,
    audio_column: AudioColumn = None,
    text_column: TextColumn = None,
    speaker_column: SpeakerColumn = None,
    max_seconds: Annotated[
        float, typer.Option(min=0, help="Longest recording to accept, in seconds.")
    ] = 30.0,
    allow_outside: AllowOutside = False,
) -> None:
    """Report all problems of a data set at once."""
    from echo.data.named import check_named

    check_named(data)

    from echo.data.check import check_source, format_report
    from echo.data.sources import Columns

    columns = Columns(audio_column, text_column, speaker_column)
    report = check_source(data, columns, max_seconds, allow_outside=allow_outside)
    print(format_report(report))
    if report.problems:
        raise typer.Exit(2)


@data_app.command()
def shard(
    data: Data,
    out: Annotated[Path, typer.Argument(help="Folder to write, which is new or empty.")],
    format: Annotated[
        Literal["flac", "opus"],
        typer.Option(help="Format of the audio: flac loses nothing, opus is a sixth as large."),
    ] = "flac",
    shard_size: Annotated[int, typer.Option(min=1, help="Most utterances in a shard.")] = 1000,
    shard_seconds: Annotated[
        float, typer.Option(min=1, help="Most audio in a shard, in seconds.")
    ] = float("inf"),
    audio_column: AudioColumn = None,
    text_column: TextColumn = None,
    speaker_column: SpeakerColumn = None,
    skip_errors: SkipErrors = False,
    allow_outside: AllowOutside = False,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Number of processes that encode; by default one for each core."),
    ] = None,
) -> None:
    """Write a data set as tar shards, which training streams."""
    from echo.data.named import check_named

    check_named(data)

    from echo.data.prepare.shard import write_shards
    from echo.data.sources import Columns, scan_source

    columns = Columns(audio_column, text_column, speaker_column)
    rows = scan_source(data, columns, allow_outside, hub_stream=True)
    entries = write_shards(
        rows,
        out,
        format,
        shard_size,
        shard_seconds,
        on_error_of(skip_errors),
        workers=(os.cpu_count() or 1) if workers is None else workers,
        progress=True,
    )
    hours = sum(entry.seconds for entry in entries) / 3600
    count = sum(entry.utterances for entry in entries)
    print(f"{count} utterances, {hours:.2f} hours, in {len(entries)} shards in {out}/")


class VisibleFormatter(logging.Formatter):
    """Formats a line of the log, with control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        return visible_lines(super().format(record))


def set_up_output() -> None:
    """Makes output safe for the terminal, whatever characters transcripts and names hold."""
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
    # All processes of a run log the same, but for errors that stop one of them.
    logging.getLogger("echo").setLevel(logging.INFO if is_main_process() else logging.CRITICAL)
    # Progress bars and hints of the libraries would break up the bar of the training.
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
        sys.exit(128 + stop.number)  # as shells report a process that a signal ended
