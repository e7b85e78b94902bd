"""JSON files, whatever is in them."""

import json
from pathlib import Path
from typing import Any

from echo.errors import DataError


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        DataError: it is missing, or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error})") from None


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON file that holds an object.

    Raises:
        DataError: it is missing, or holds something else.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds {type(content).__name__}, not an object")
    return content
