"""What can be said of a model's name before anything heavy is imported."""

import re
from pathlib import Path

from echo.support.errors import DataError

HUB_ID = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*")


def check_model(source: str | Path) -> None:
    """Checks that a model exists, where its name cannot be a hub id.

    Raises:
        DataError: it does not.
    """
    if not HUB_ID.fullmatch(str(source)) and not Path(source).exists():
        raise DataError(f"{source}: no such folder, and not a hub id")
