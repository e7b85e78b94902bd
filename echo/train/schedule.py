"""The learning-rate schedule, and how much of a run's budget is spent."""

import math
from collections.abc import Callable

import torch

from echo.config import TrainSettings
from echo.support.errors import ConfigError


def build_schedule(
    optimiser: torch.optim.Optimizer,
    settings: TrainSettings,
    seconds: Callable[[], float] = lambda: 0.0,
) -> torch.optim.lr_scheduler.LambdaLR:
    """The learning-rate schedule, to be stepped after every step. `seconds` returns those of
    training so far. ConfigError if neither steps nor seconds are limited."""
    if settings.max_steps is None and settings.max_seconds is None:
        raise ConfigError("train.max_steps can only be null if train.max_seconds is given")
    return torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: rate_factor(settings, step, seconds())
    )


def rate_factor(settings: TrainSettings, step: int, seconds: float) -> float:
    """The factor of the learning rate: linear warm-up over `warmup_steps`, then linear or cosine
    decay to 0 at the end of the budget."""
    if step < settings.warmup_steps:
        return step / settings.warmup_steps
    share = share_done(settings, step, seconds)
    if share >= 1:
        return 0.0
    warm = settings.warmup_steps / settings.max_steps if settings.max_steps else 0.0
    decayed = (share - warm) / (1 - warm)
    return 1 - decayed if settings.schedule == "linear" else (1 + math.cos(math.pi * decayed)) / 2


def share_done(settings: TrainSettings, step: int, seconds: float) -> float:
    """The share of a run's budget that is spent: of steps or of seconds, whichever is more."""
    return max(
        step / settings.max_steps if settings.max_steps else 0.0,
        seconds / settings.max_seconds if settings.max_seconds else 0.0,
    )
