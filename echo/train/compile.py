"""Layers compiled by `torch.compile`, for training alone."""

import os
import shutil
from contextlib import AbstractContextManager

import torch

from echo.model.model import EchoForConditionalGeneration
from echo.support.errors import ConfigError

CPU_COMPILERS = ("g++", "clang++", "cl")  # of which torch needs one, or what CXX names


def compile_layers(model: EchoForConditionalGeneration, device: torch.device) -> None:
    """Makes the first batches compile the model's layers, for any number and length of recordings.

    Layers rather than the model, because equal ones share what is compiled, and what hooks remember
    of a layer stays theirs.

    Raises:
        ConfigError: there is no compiler.
    """
    compilers = [os.environ["CXX"]] if "CXX" in os.environ else CPU_COMPILERS
    if device.type == "cpu" and not any(map(shutil.which, compilers)):
        raise ConfigError(
            f"train.compile needs a C++ compiler ({' or '.join(compilers)}), and none is installed"
        )
    for layer in [*model.model.encoder.layers, *model.model.decoder.layers]:
        layer.compile(dynamic=True)


def not_compiled() -> AbstractContextManager[None]:
    """Within, compiled layers run as they are written: decoding has other shapes at each token,
    each of which would be compiled anew."""
    return torch.compiler.set_stance("force_eager")
