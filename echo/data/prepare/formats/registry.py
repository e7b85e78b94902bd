"""Finds formats by name. Imports nothing heavy before the name is known."""

from importlib import import_module
from typing import TYPE_CHECKING

from echo.support.errors import ConfigError

if TYPE_CHECKING:
    from echo.data.prepare.formats.format import Format

FORMATS = ("nemo", "hf", "kaldi", "lhotse", "common-voice", "csv")  # modules that hold a `FORMAT`


def find_format(name: str) -> "type[Format]":
    """Returns the format of a name. Raises ConfigError where there is none."""
    if name not in FORMATS:
        raise ConfigError(f"--to is {name!r}, but must be one of: {', '.join(FORMATS)}")
    return import_module(f"echo.data.prepare.formats.{name.replace('-', '_')}").FORMAT
