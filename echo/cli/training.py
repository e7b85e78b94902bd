"""Commands that train. Heavy imports stay inside, so that help and errors in settings are quick."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echo.cli.json_lines import LogFormat, log_as
from echo.cli.options import Overrides, RunFolder
from echo.support.errors import ConfigError
from echo.support.launch import is_main_process, process_count

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
            help="Seeds; every model is trained with each of them; by default the file's seed.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; by default runs/NAME_OF_CONFIG.")
    ] = None,
    log_format: LogFormat = "text",
) -> None:
    """Train several models in turn on the same data, and compare them.

    The config's 'models' lists them, 'budget={seconds: 600}' or 'budget={steps: 1000}' says for how
    long, and 'baseline=NAME' what they are compared with. 'models.echo.train.learning_rate=1e-3'
    changes a setting of one model; 'models.focus=configs/attention/focus.yaml' adds one.
    """
    from echo.data.named import check_data
    from echo.pilot.contenders import read_pilot
    from echo.support.text import read_numbers
    from echo.support.yaml import read_yaml
    from echo.train.trackers import check_trackers

    out = out or Path("runs") / config.stem
    chosen = None if seeds is None else read_numbers(seeds, "--seeds", int)
    settings = read_pilot(read_yaml(config), str(config), overrides or [], chosen)
    check_data(settings.contenders[0].config.data)
    for contender in settings.contenders:
        check_trackers(contender.config.train.trackers)

    with log_as(log_format) as lines:
        from echo.evaluate.summary import render
        from echo.pilot.result import pilot_result
        from echo.pilot.run import run_pilot
        from echo.report.write import write_report

        result = run_pilot(settings, out)
        page = write_report(out)
        if lines:
            lines.write({"kind": "end", "run": str(out), "result": str(out / "pilot.json")})
            return
    print("\n" + render(pilot_result(result)))
    print(f"Transcripts and pilot.json are in {out}/; look at {page}")


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
    log_format: LogFormat = "text",
) -> None:
    """Train a model."""
    from echo.config import load_config
    from echo.data.named import check_data
    from echo.evaluate.criterion import run_criterion
    from echo.support.hub import check_model
    from echo.train.trackers import check_trackers

    with together():
        settings = load_config(config, overrides or [])
        check_data(settings.data)
        check_trackers(settings.train.trackers)
        run_criterion(settings)
        if settings.init is not None:
            check_model(settings.init)
        if find_batch and process_count() > 1:
            raise ConfigError("--find-batch runs in one process: start it without a launcher")
        if find_batch and out is not None:
            raise ConfigError(f"--find-batch writes nothing: leave out --out {out}")
        if find_batch and log_format == "json":
            raise ConfigError(
                "--find-batch does not train, so --log-format json has no effect: leave one out"
            )
    if find_batch:
        from echo.train.find_batch import find_max_batch_seconds

        print(f"data.max_batch_seconds={find_max_batch_seconds(settings):.0f}")
        return

    out = out or Path("runs") / config.stem
    with log_as(log_format) as lines:
        from echo.train.run import start_run

        progress = start_run(settings, out)
    if not lines:
        say_trained(out, progress)


def resume(run: RunFolder, overrides: Overrides = None, log_format: LogFormat = "text") -> None:
    """Continue a run that was stopped from its last checkpoint, or train a finished one for longer.

    'train.max_steps=4000' continues a finished run; settings of the model cannot change.
    """
    from echo.config import load_run_config
    from echo.train.trackers import check_trackers

    with together():
        check_trackers(load_run_config(run, overrides or []).train.trackers)

    with log_as(log_format) as lines:
        from echo.train.run import resume_run

        progress = resume_run(run, overrides=overrides or [])
    if not lines:
        say_trained(run, progress)


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
