"""What is done to files: single bytes, values in JSON, weights, and what kind of file they are."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.fuzzing import JUNK, NUMBERS, WORDS, Change, cut, flip, put, renumber, splice

VALUES: tuple[Any, ...] = (
    *(None, True, False, "", "x" * 300, "\ud800", "²", "9" * 5_000, [], {}, [[]], [None], {"a": 1}),
    *(-1, 0, 1, 2**31, 2**63, 10**30, 1.5, -0.0, 1e308, float("nan"), float("inf"), "nan", "null"),
)


def bytes_of(rng: random.Random, path: Path) -> str:
    """A change or a few, as bit rot, broken transfers and malice make them."""
    content = path.read_bytes()
    for _ in range(rng.randint(1, 3)):
        content = byte_change(rng)(content)
    path.write_bytes(content)
    return "bytes"


def byte_change(rng: random.Random) -> Change:
    place = rng.randint(0, 400) if rng.random() < 0.5 else rng.randint(0, 1_000_000)
    return rng.choice(
        (
            lambda: flip(place, rng.randint(0, 7)),
            lambda: cut(place),
            lambda: put(place, rng.choice(JUNK), rng.random() < 0.5),
            lambda: put(place, rng.choice(WORDS), True),
            lambda: splice(place, rng.randint(1, 200), rng.randint(0, 1_000)),
            lambda: renumber(rng.randint(0, 100), rng.choice(NUMBERS)),
        )
    )()


def json_value(rng: random.Random, path: Path) -> str:
    """Another value, a key too many or too few, somewhere in a file of JSON or JSON lines."""
    lines = path.suffix == ".jsonl"
    text = path.read_text()
    content = [json.loads(line) for line in text.splitlines()] if lines else json.loads(text)
    places = [*walk(content)]
    holder, key = rng.choice(places)
    how = rng.random()
    if how < 0.15:
        del holder[key]
    elif how < 0.25 and isinstance(holder, dict):
        holder["unknown"] = rng.choice(VALUES)
    elif how < 0.4:
        other, chosen = rng.choice(places)
        holder[key] = json.loads(json.dumps(other[chosen]))
    else:
        holder[key] = rng.choice(VALUES)
    dumped = "".join(json.dumps(row) + "\n" for row in content) if lines else json.dumps(content)
    path.write_text(dumped)
    return f"value of {key!r}"


def walk(content: Any) -> Any:
    """Yields each holder and key."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in [*items]:
        yield content, key
        if isinstance(value, dict | list) and len(value) < 50:
            yield from walk(value)


def weights(rng: random.Random, path: Path) -> str:
    """Weights that are not finite, of another shape or type, renamed or missing."""
    tensors = load_file(path)
    name = rng.choice(sorted(tensors))
    tensor = tensors[name]
    how = rng.choice(("nan", "inf", "shape", "type", "missing", "renamed", "empty", "integers"))
    if how in ("nan", "inf"):
        tensors[name] = np.full_like(tensor, float(how))
    elif how == "shape":
        tensors[name] = np.ascontiguousarray(tensor.reshape(-1)[1:])
    elif how == "type":
        tensors[name] = tensor.astype(np.float64)
    elif how == "integers":
        tensors[name] = tensor.astype(np.int32)
    elif how == "empty":
        tensors[name] = tensor.reshape(-1)[:0]
    else:
        del tensors[name]
        if how == "renamed":
            tensors[f"{name}.x"] = tensor
    save_file(tensors, path, metadata={"format": "pt"})
    return f"weights: {how}"


def gone(rng: random.Random, path: Path) -> str:
    path.unlink()
    return "missing"


def emptied(rng: random.Random, path: Path) -> str:
    path.write_bytes(b"")
    return "empty"


def folder(rng: random.Random, path: Path) -> str:
    path.unlink()
    path.mkdir()
    return "a folder"


def fifo(rng: random.Random, path: Path) -> str:
    path.unlink()
    os.mkfifo(path)
    return "a FIFO"


def loop(rng: random.Random, path: Path) -> str:
    path.unlink()
    path.symlink_to(path.name)
    return "a link to itself"


def device(rng: random.Random, path: Path) -> str:
    path.unlink()
    path.symlink_to("/dev/zero")
    return "a link to an endless file"


def stranger(rng: random.Random, path: Path) -> str:
    """The content of another file beside it."""
    others = sorted(each for each in path.parent.iterdir() if each.is_file() and each != path)
    if others:
        path.write_bytes(rng.choice(others).read_bytes())
    return "another file's content"


REPLACED = (gone, emptied, folder, fifo, loop, device)  # no command can use these
Damage = Callable[[random.Random, Path], str]


def damage(rng: random.Random, path: Path) -> str:
    """Damages a file in one of the ways that there are for its kind; returns how."""
    ways: list[Damage] = [bytes_of] * 3 + [stranger, rng.choice(REPLACED)]
    if path.suffix in (".json", ".jsonl"):
        ways += [json_value] * 8
    if path.suffix == ".safetensors":
        ways += [weights] * 6
    return f"{path.name}: {rng.choice(ways)(rng, path)}"
