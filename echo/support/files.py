"""Writing files so that a reader never finds half of one."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from echo.support.errors import DataError, EchoError


def replace_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def result_folder(folder: Path, result: str) -> None:
    """Makes a folder for results, before an hour is spent on them.

    Args:
        result: the file that tells that there are results already, which are never overwritten.

    Raises:
        EchoError: it has results, or cannot be written to.
    """
    if (folder / result).exists():
        raise EchoError(f"{folder}: holds results already ({result}); choose another folder")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raises EchoError where what is done within cannot be written."""
    try:
        yield
    except OSError as error:
        raise EchoError(f"{folder}: cannot be written ({error.strerror})") from None


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


def is_file_name(name: object) -> bool:
    """Whether this is a name that stays in its folder: no path, and nothing that a shell, a
    terminal or another file system takes for more than a name."""
    return (
        isinstance(name, str)
        and name.isprintable()
        and 0 < len(name.encode(errors="replace")) <= 255
        and not name.startswith((".", "~"))
        and not any(character in name for character in '/\\:*?"<>|')
    )


def lies_in(path: Path, roots: tuple[Path, ...]) -> bool:
    """Whether a path stays below one of several folders, once all links are followed.

    Args:
        roots: resolved; so a folder that is a link itself is as good as what it links to.
    """
    return leads_into(path.resolve().parent if path.is_symlink() else path.parent, roots)


@lru_cache(maxsize=4096)  # to resolve takes as long as all else about a line of a manifest
def leads_into(folder: Path, roots: tuple[Path, ...]) -> bool:
    real = folder.resolve()
    return any(real.is_relative_to(root) for root in roots)
