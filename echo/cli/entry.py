"""Where the command line begins: output, errors and exit codes."""

import errno
import io
import logging
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

import echo
from echo.cli import averaging, data, labelling, measuring, training, using
from echo.support.errors import ConfigError, EchoError, StoppedElsewhere, StoppedError, reason
from echo.support.launch import is_main_process, process_count
from echo.support.text import brief, visible_lines

LONGEST_WORD = 1000  # characters of a word in an error, which may be a path

app = typer.Typer(
    help="Train Whisper-style speech recognition with focused attention.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(
    help="Check, show, correct, split, label and convert data sets.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(data_app, name="data")
for command in (
    training.pilot,
    training.train,
    training.resume,
    averaging.average,
    averaging.merge,
    measuring.evaluate,
    measuring.compare,
    measuring.inspect,
    using.report,
    using.transcribe,
    using.convert,
    using.export,
):
    app.command(context_settings=averaging.TAKES_ALL if command is averaging.average else None)(
        command
    )
data_app.command()(data.check)
data_app.command()(data.explore)
data_app.command()(data.apply)
data_app.command()(data.shard)
data_app.command()(data.convert)
data_app.command()(data.split)
data_app.command()(data.filter)
data_app.command()(labelling.label)
data_app.command()(labelling.align)

SHARED = ("train", "resume", "label")  # commands that run in several processes


def print_version(wanted: bool) -> None:
    if wanted:
        print(f"echo-asr {echo.__version__}")
        raise typer.Exit


@app.callback()
def set_up(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Raises ConfigError where several processes were started for a command that runs in one."""
    if context.invoked_subcommand != "data":  # whose commands are checked below
        check_shared(context)


@data_app.callback()
def check_shared(context: typer.Context) -> None:
    command = context.invoked_subcommand
    if process_count() > 1 and command not in SHARED:
        raise ConfigError(
            f"{command} runs in one process; only {', '.join(SHARED[:-1])} and data {SHARED[-1]} "
            "run in several"
        )


class VisibleFormatter(logging.Formatter):
    """Formats a line of the log, with control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        return visible_lines(super().format(record))


class Patient(io.TextIOWrapper):
    """An output whose reader may leave, as `head -1` does, without an end to a training."""

    def write(self, text: str) -> int:
        return self.attempt(lambda: super(Patient, self).write(text))

    def flush(self) -> None:
        self.attempt(super().flush)

    def attempt(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return action()


def set_up_output() -> None:
    """Makes output safe for the terminal, whatever characters transcripts and names hold."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and stream is getattr(sys, f"__{name}__"):
            stream.flush()
            by_lines = name == "stderr" or stream.isatty()
            stream = Patient(stream.buffer, encoding=stream.encoding, line_buffering=by_lines)
            setattr(sys, name, stream)
        if isinstance(stream, io.TextIOWrapper):
            # Characters it cannot show are spelled out, so that no run ends because of a font.
            stream.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler()
    handler.setFormatter(VisibleFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler])


def fail(error: object) -> None:
    words = [brief(word, LONGEST_WORD) for word in str(error).split()]
    print(f"echo-asr: {' '.join(words)}", file=sys.stderr)


def main() -> None:
    """Runs the command line; an error that the user can fix is one sentence and exit code 2."""
    set_up_output()
    # All processes of a run log the same, but for errors that stop one of them.
    logging.getLogger("echo").setLevel(logging.INFO if is_main_process() else logging.CRITICAL)
    # Progress bars and hints of the libraries would break up the bar of the training.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Products in TF32 are no longer those of float32; cuBLAS reads these when it is loaded.
    for variable in ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "NVIDIA_TF32_OVERRIDE"):
        if os.environ.pop(variable, None) is not None:
            logging.getLogger("echo").warning("%s has no effect: it would change results", variable)
    # torchao, which transformers imports where it is installed, uses what torch is about to drop.
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    try:
        app()
    except StoppedElsewhere:
        sys.exit(2)
    except EchoError as error:
        fail(error)
        sys.exit(2)
    except OSError as error:
        name = error.filename
        place = brief(os.fsdecode(name)) if isinstance(name, str | bytes) else "a file"
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fail(f"{place}: {'the disk is full' if is_full else f'cannot be used ({reason(error)})'}")
        sys.exit(2)
    except StoppedError as stop:
        if is_main_process():
            fail(stop)
        sys.exit(128 + stop.number)  # as shells report a process that a signal ended
