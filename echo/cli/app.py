"""The command line as a whole: its commands' groups, and how many processes share one."""

import os
from typing import Annotated

import typer

import echo
from echo.support.errors import ConfigError

app = typer.Typer(
    help="Train Whisper-style speech recognition with focused attention.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


data_app = typer.Typer(
    help="Check, show and convert data sets.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(data_app, name="data")


def is_main_process() -> bool:
    """Returns whether this is the main process of those that a launcher started."""
    return os.environ.get("RANK", "0") == "0"


def process_count() -> int:
    """Returns how many processes a launcher started."""
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
        ConfigError: several processes were started for a command that runs in one.
    """
    command = context.invoked_subcommand
    if process_count() > 1 and command not in ("train", "resume"):
        raise ConfigError(f"{command} runs in one process; only train and resume run in several")
