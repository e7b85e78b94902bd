"""The state of a training run: all that it needs to resume exactly."""

import random
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from statistics import fmean
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from echo.checkpoints.run import Progress
from echo.config import RunConfig
from echo.model.model import EchoForConditionalGeneration
from echo.support.distributed import Processes
from echo.support.errors import EchoError
from echo.support.provenance import versions
from echo.support.settings import to_dict
from echo.support.yaml import dump
from echo.train.lora import trained_state
from echo.train.optimiser import build_optimiser, state_shapes
from echo.train.saved import check_saved
from echo.train.schedule import build_schedule, share_done
from echo.train.sharding import spread_optimiser_state, whole


class WeightAverage:
    """The exponential moving average of the trained weights.

    Early steps count for more than `decay` says, so that the average soon forgets the weights that
    training began with.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.values = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self, step: int, taken: torch.Tensor) -> None:
        """Updates the average with the present weights after `step` steps. `taken` is a boolean on
        the device; if false, the average stays as it is."""
        decay = min(self.decay, (1 + step) / (10 + step))
        present = [
            torch.where(taken, p.detach(), value)
            for p, value in zip(self.parameters, self.values, strict=True)
        ]
        get_ema_multi_avg_fn(decay)(self.values, present, step)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the model's weights are the averages."""
        trained = [p.data for p in self.parameters]
        for parameter, value in zip(self.parameters, self.values, strict=True):
            parameter.data = value
        try:
            yield
        finally:
            for parameter, value in zip(self.parameters, trained, strict=True):
                parameter.data = value


class TrainState:
    """The model, its optimiser, schedule and weight average, and the run's progress and metrics."""

    def __init__(
        self,
        config: RunConfig,
        model: EchoForConditionalGeneration,
        accelerator: Accelerator,
        processes: Processes,
    ) -> None:
        """The state at step 0. ConfigError if nothing is left to train, or training has no end."""
        self.config = config
        self.accelerator = accelerator
        self.processes = processes
        self.progress = Progress()
        # By what uses them, a checksum of weights that are not trained and in no checkpoint.
        self.frozen: dict[str, int] = {}
        self.recent: list[dict[str, Any]] = []  # losses of the steps since the last logged line
        with processes.together():
            optimiser = build_optimiser(model, config.train)
            self.schedule = build_schedule(optimiser, config.train, lambda: self.progress.seconds)
        self.parts = [group["part"] for group in optimiser.param_groups]
        self.model, self.optimiser = accelerator.prepare(model, optimiser)
        decay = config.train.ema_decay
        self.average = None if decay is None else WeightAverage(self.model, decay)

    @property
    def unwrapped(self) -> EchoForConditionalGeneration:
        """The model without the wrapper that several processes train it in."""
        return self.accelerator.unwrap_model(self.model)

    @property
    def finished(self) -> bool:
        """Whether training has come to its end."""
        return self.budget_is_spent or self.stale

    @property
    def budget_is_spent(self) -> bool:
        """Whether `max_steps` or `max_seconds` is reached."""
        return share_done(self.config.train, self.progress.step, self.progress.seconds) >= 1

    @property
    def stale(self) -> bool:
        """Whether the WER has not improved for `patience` evaluations."""
        patience = self.config.train.patience
        return patience is not None and self.progress.stale >= patience

    @property
    def evaluation_is_due(self) -> bool:
        """Whether this step is to be evaluated and has not been yet."""
        step = self.progress.step
        due = step > 0 and (step % self.config.train.eval_every == 0 or self.budget_is_spent)
        return due and self.progress.wer_step != step

    def update_learning_rate(self) -> None:
        """Sets the next step's learning rate by a schedule that has changed since a checkpoint."""
        schedule = self.schedule
        for group, base, factor in zip(
            self.optimiser.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
        ):
            group["lr"] = base * factor(schedule.last_epoch)

    def take_metrics(self) -> dict[str, Any]:
        """The means over the recent steps, which are then forgotten, and figures of the progress;
        empty if there are no recent steps."""
        steps, self.recent = self.recent, []
        if not steps:
            return {}
        progress = self.progress
        return {
            **{key: fmean(float(step[key]) for step in steps) for key in steps[0]},
            "skipped_steps": progress.skipped_steps,
            **self.learning_rates(),
            "seconds": progress.seconds,
            "utterances": progress.utterances,
            "utterances_per_second": progress.utterances / progress.seconds,
        }

    def learning_rates(self) -> dict[str, float]:
        """The schedule's learning rate, `learning_rate`, and those of the model's parts if any has
        another."""
        highest = [float(rate) for rate in self.schedule.base_lrs]
        rates = [float(rate) for rate in self.schedule.get_last_lr()]
        factor = next((rate / high for rate, high in zip(rates, highest, strict=True) if high), 0.0)
        found = {"learning_rate": self.config.train.learning_rate * factor}
        if {*highest} != {self.config.train.learning_rate}:
            named = zip(self.parts, rates, strict=True)
            found |= {f"learning_rate/{part}": rate for part, rate in named if part}
        return found

    def averaged(self) -> AbstractContextManager[None]:
        """Within, the model has the weights to evaluate and save: with `ema_decay` their average,
        otherwise those that are trained."""
        return self.average.in_place() if self.average else nullcontext()

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values. All processes must call it.

        Returns:
            `optimiser`, `schedule`, `random` (an entry for each process), `recent`, `progress`,
            `config` as YAML and `versions`; and `trained`, what is trained, where the checkpoint's
            model has other weights (with `lora` and `ema_decay`); with `ema_decay` `average`, the
            averages of these weights; and `frozen`.
        """
        state = {
            "optimiser": whole(self.optimiser.state_dict()),
            "schedule": self.schedule.state_dict(),
            "random": self.processes.gather(random_state()),
            "recent": self.recent,
            "progress": asdict(self.progress),
            "config": dump(to_dict(self.config)),
            "versions": versions(),
            "frozen": self.frozen,
        }
        if self.config.lora or self.average:
            state["trained"] = trained_state(self.unwrapped)
        if self.average:
            state["average"] = self.average.values
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned, or raises EchoError for anything else. The
        checkpoint's model must be loaded already.

        The random generators are restored only where as many processes train as before; otherwise
        they are seeded anew.
        """
        like = self.state_dict()
        for name, _ in self.unwrapped.named_buffers():
            if name not in (state.get("trained") or ()):  # earlier versions did not keep them
                like.get("trained", {}).pop(name, None)
        shapes = state_shapes(self.optimiser.optimizer)
        check_saved(state, like, shapes, self.processes.rank)
        self.check_frozen(state)
        self.optimiser.load_state_dict(spread_optimiser_state(state["optimiser"], self.optimiser))
        self.schedule.load_state_dict(state["schedule"])
        if "trained" in state:
            self.unwrapped.load_state_dict(state["trained"], strict=False)
        if self.average:
            self.average.values = [v.to(self.accelerator.device) for v in state["average"]]
        self.recent = state["recent"]
        self.progress = Progress.from_dict(state["progress"])
        if len(state["random"]) == self.processes.world:
            restore_random_state(state["random"][self.processes.rank])
        else:
            self.processes.seed(self.config.seed, self.progress.step)

    def check_frozen(self, state: dict[str, Any]) -> None:
        """Raises EchoError where a model that the run uses, but does not train, has other weights
        than when the checkpoint was written. Those of earlier versions do not say."""
        before = state.get("frozen")
        for user, now in self.frozen.items():
            if isinstance(before, dict) and before.get(user, now) != now:
                raise EchoError(
                    f"the model for {user} has other weights than when the run began: a run or "
                    "folder that the config names has changed since"
                )


def checksum(parameters: Iterable[nn.Parameter]) -> int:
    found = 0
    for parameter in parameters:
        content = parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
        found = zlib.crc32(content.data, found)
    return found


@contextmanager
def full_precision(model: EchoForConditionalGeneration) -> Iterator[None]:
    """Within, a model computes in the precision of its weights, as outside of training. For bf16,
    accelerate has replaced its `forward` by one that casts, but the encoder, which decoding calls
    by itself, is as it was: both would decode in different precisions."""
    casting = model.__dict__.pop("forward", None)
    try:
        yield
    finally:
        if casting is not None:
            model.forward = casting  # type: ignore[method-assign]


def random_state() -> dict[str, Any]:
    """The state of every random generator that this process may draw from in training."""
    version, internal, gauss = random.getstate()
    state: dict[str, Any] = {
        "python": [version, list(internal), gauss],
        "numpy": {
            k: v.tolist() if isinstance(v, np.ndarray) else v
            for k, v in np.random.get_state(legacy=False)["state"].items()
        },
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Sets all generators to what `random_state` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    legacy = np.random.get_state(legacy=False)
    legacy["state"] = {
        "key": np.array(state["numpy"]["key"], dtype=np.uint32),
        "pos": state["numpy"]["pos"],
    }
    np.random.set_state(legacy)
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
