"""The parameters that are trained, and their optimiser."""

from collections.abc import Sequence

import torch
from torch import nn

from echo.config import TrainSettings
from echo.model.model import EchoForConditionalGeneration
from echo.model.whisper import new_parameters
from echo.support.errors import ConfigError


def freeze(model: nn.Module, modules: Sequence[str]) -> None:
    """Excludes modules and parameters from training, by name: "encoder.conv1", or all of "encoder".

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
    """AdamW with weight decay on matrices only, not on biases, norms or temperatures. Parameters
    that a Whisper checkpoint lacks may have a learning rate of their own.

    Raises:
        ConfigError: no parameter is left to train.
    """
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
