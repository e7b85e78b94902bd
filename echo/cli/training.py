"""Commands that train. Heavy imports stay inside, so that help and errors in settings are quick."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echo.cli.app import is_main_process, process_count
from echo.cli.options import Overrides, RunFolder
from echo.support.errors import ConfigError

if TYPE_CHECKING:
    from echo.checkpoints.run import Progress


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
    from echo.report.write import write_report

    result = run_pilot(settings, out)
    print("\n" + render(result))
    page = write_report(out)
    print(f"Curves, transcripts and pilot.json are in {out}/; look at {page}")


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
