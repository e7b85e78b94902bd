"""Finds export targets by name. Imports nothing heavy before the name is known."""

from importlib import import_module
from typing import TYPE_CHECKING

from echo.support.errors import ConfigError

if TYPE_CHECKING:
    from echo.checkpoints.export.target import Target

TARGETS = ("whisper", "ctranslate2", "ggml", "onnx")  # each a module here that holds a `TARGET`


def find_target(name: str, quantization: str | None) -> "Target":
    """Returns the target of a name. Raises ConfigError where there is none, or no such
    precision."""
    if name not in TARGETS:
        raise ConfigError(f"--to is {name!r}, but must be one of: {', '.join(TARGETS)}")
    target: Target = import_module(f"echo.checkpoints.export.{name}").TARGET
    known = [precision for precision in target.precisions if precision]
    if quantization is not None and quantization not in known:
        choice = f"one of: {', '.join(known)}" if known else "left out"
        raise ConfigError(f"--quantization is {quantization!r}, but for {name} it must be {choice}")
    return target
