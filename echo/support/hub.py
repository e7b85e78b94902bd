"""Names of models and data sets of the Hugging Face Hub. Imports nothing heavy."""

import re
from pathlib import Path

from echo.support.errors import DataError

MODEL = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*")  # some of the oldest have no owner
DATASET = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*)(:(?P<config>[^@/\\]+))?(@(?P<split>[^/\\]+))?")


def check_model(source: str | Path) -> None:
    """Raises DataError unless a model exists, or its name can be a hub id."""
    if not MODEL.fullmatch(str(source)) and not Path(source).exists():
        raise DataError(f"{source}: no such folder, and not a hub id")


def hub_name(source: str | None) -> str | None:
    """Returns the name of a model or data set of the hub, without config and split. None for what
    is not named like one, or lies here."""
    found = DATASET.fullmatch(source or "")
    return found["name"] if found and not Path(found["name"]).exists() else None
