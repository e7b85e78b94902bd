"""accelerate's trackers, opened for a run."""

import os
from pathlib import Path
from typing import Any
from uuid import uuid4

from accelerate.tracking import (
    MLflowTracker,
    TensorBoardTracker,
    TrackioTracker,
    WandBTracker,
)
from torch.utils.tensorboard.summary import hparams

PROJECT = "echo-asr"  # under which trackers list runs
BEST = "eval/best_wer"  # by which TensorBoard compares runs

Settings = dict[str, Any]


def open_backend(
    name: str, run: Path, title: str, settings: Settings, step: int, known: str | None
) -> Any:
    """A tracker of a run, before its `start`, which shows the settings. After that its `run_id` is
    what it knows the run by, except TensorBoard, which has only the folder. `known` is that id, if
    the tracker has given one; training starts or goes on at `step`."""
    match name:
        case "tensorboard":
            return TensorBoard(run, settings, step)
        case "mlflow":
            return MLflow(title, settings, known)
        case "wandb":
            return WandB(run, title, settings, known)
        case _:
            return Trackio(title, settings, known)


class TensorBoard(TensorBoardTracker):
    """Writes to the run's `tensorboard` folder, and there the settings as hyperparameters. The
    parent writes these, without a metric, to a new folder at every start."""

    def __init__(self, run: Path, settings: Settings, step: int) -> None:
        # Shows no steps of earlier files from purge_step on.
        super().__init__("tensorboard", run, purge_step=step + 1)
        self.settings = settings

    def start(self) -> None:
        super().start()
        experiment, session, _ = hparams(self.settings, {BEST: 0.0})
        for summary in (experiment, session):
            self.writer.file_writer.add_summary(summary)
        self.writer.flush()


class MLflow(MLflowTracker):
    """Names its run whenever it logs. The parent logs to the one run that is active in a thread,
    but a pilot has several."""

    def __init__(self, title: str, settings: Settings, known: str | None) -> None:
        super().__init__(PROJECT, run_name=title, run_id=known)
        self.is_new = known is None
        self.settings = settings
        # By default a server that is away would hold training up for minutes at every event.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

    def start(self) -> None:
        import mlflow

        super().start()
        self.run_id = self.active_run.info.run_id
        if self.is_new:  # a parameter cannot change
            self.store_init_configuration(self.settings)
        mlflow.end_run("RUNNING")  # no longer active in this thread

    def log(self, values: dict[str, Any], step: int | None = None, **options: Any) -> None:
        super().log(values, step, run_id=self.run_id, **options)

    def finish(self) -> None:
        from mlflow import MlflowClient

        MlflowClient().set_terminated(self.run_id)


class WandB(WandBTracker):
    def __init__(self, run: Path, title: str, settings: Settings, known: str | None) -> None:
        self.run_id = known or uuid4().hex
        super().__init__(
            os.environ.get("WANDB_PROJECT", PROJECT),
            id=self.run_id,
            name=title,
            dir=str(run),
            config=settings,
            resume="allow",
            reinit="create_new",  # beside the pilot's other runs
        )


class Trackio(TrackioTracker):
    """Knows a run by its name."""

    def __init__(self, title: str, settings: Settings, known: str | None) -> None:
        self.run_id = known or f"{title} {uuid4().hex[:8]}"
        super().__init__(PROJECT, name=self.run_id, config=settings, resume="allow")
