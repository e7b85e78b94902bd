"""What is trained, by AdamW, and the learning-rate schedule."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from echo.config import TrainSettings
from echo.errors import ConfigError
from echo.model import EchoForConditionalGeneration
from echo.upcycle import new_parameters


def freeze(model: nn.Module, modules: Sequence[str]) -> None:
    """Keeps modules and parameters as they are, by name: "encoder.conv1", or a whole "encoder".

    Raises:
        ConfigError: there is no such module.
    """
    for module in modules:
        found = [
            parameter
            for name, parameter in model.named_parameters()
            if f"{name}.".startswith((f"{module}.", f"model.{module}."))
        ]
        if not found:
            raise ConfigError(f"train.freeze: the model has no module {module!r}")
        for parameter in found:
            parameter.requires_grad_(False)


def build_optimiser(
    model: EchoForConditionalGeneration, settings: TrainSettings
) -> torch.optim.AdamW:
    """AdamW that decays matrices alone: not biases, norms or temperatures. What a Whisper
    checkpoint lacks may have a learning rate of its own."""
    new = new_parameters(model) if settings.new_learning_rate is not None else set()
    groups = []
    for is_new, rate in ((False, settings.learning_rate), (True, settings.new_learning_rate)):
        trained = [
            parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and (name in new) == is_new
        ]
        for matrices, decay in ((True, settings.weight_decay), (False, 0.0)):
            parameters = [p for p in trained if (p.ndim >= 2) == matrices]
            if parameters:
                groups.append({"params": parameters, "weight_decay": decay, "lr": rate})
    if not groups:
        raise ConfigError("train.freeze leaves nothing to train")
    return torch.optim.AdamW(groups, betas=(settings.betas[0], settings.betas[1]), fused=True)


def build_schedule(
    optimiser: torch.optim.Optimizer,
    settings: TrainSettings,
    seconds: Callable[[], float] = lambda: 0.0,
) -> torch.optim.lr_scheduler.LambdaLR:
    """The learning-rate schedule, which is told of every step.

    Args:
        seconds: what training has taken so far.

    Raises:
        ConfigError: the settings give training no end.
    """
    if settings.max_steps is None and settings.max_seconds is None:
        raise ConfigError("train.max_steps can only be null where train.max_seconds is given")
    return torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: rate_factor(settings, step, seconds())
    )


def rate_factor(settings: TrainSettings, step: int, seconds: float) -> float:
    """What the learning rate is multiplied by: linear warm-up over `warmup_steps`, then linear or
    cosine decay to zero at the end of the budget."""
    if step < settings.warmup_steps:
        return step / settings.warmup_steps
    share = share_done(settings, step, seconds)
    if share >= 1:
        return 0.0
    warm = settings.warmup_steps / settings.max_steps if settings.max_steps else 0.0
    decayed = (share - warm) / (1 - warm)
    return 1 - decayed if settings.schedule == "linear" else (1 + math.cos(math.pi * decayed)) / 2


def share_done(settings: TrainSettings, step: int, seconds: float) -> float:
    """The share of a run's budget that is spent, of steps or of seconds, whichever is more."""
    return max(
        step / settings.max_steps if settings.max_steps else 0.0,
        seconds / settings.max_seconds if settings.max_seconds else 0.0,
    )
