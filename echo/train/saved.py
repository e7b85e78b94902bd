"""Whether a saved training state is one that this run can go on from. Checksums show damage; this
shows what another version or an editor has written, before native code uses it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import torch

from echo.checkpoints.run import Progress
from echo.support.errors import EchoError
from echo.support.text import brief

MAY_BE_MISSING = ("wer", "best_wer")  # of the progress, before it is measured


def check_saved(
    state: Mapping[str, Any],
    like: Mapping[str, Any],
    shapes: Mapping[int, Mapping[str, tuple[int, ...]]],
    rank: int,
) -> None:
    """Raises EchoError unless a state has the names, shapes and types of a new one, `like`, and of
    the optimiser's tensors; see `echo.train.optimiser.state_shapes`."""
    progress = state.get("progress")
    if not isinstance(progress, dict):
        progress = {}
    wanted = {
        "schedule": like["schedule"],
        "progress": {
            key: value
            for key, value in asdict(Progress()).items()
            if key not in MAY_BE_MISSING or progress.get(key) is not None
        },
        **{key: like[key] for key in ("trained", "average") if key in like},
    }
    for key in MAY_BE_MISSING:
        if key in wanted["progress"]:
            wanted["progress"][key] = 0.0
    problem = misfit(state, wanted, "") or misfit_of_recent(state.get("recent"))
    problem = problem or misfit_of_random(state.get("random"), like["random"], rank)
    problem = problem or misfit_of_optimiser(state.get("optimiser"), like["optimiser"], shapes)
    if problem:
        told = state.get("versions")
        by = ", ".join(f"{k} {v}" for k, v in told.items()) if isinstance(told, dict) else ""
        raise EchoError(
            f"its training state is not one of this run: {problem}; it was written by "
            f"{brief(by) or 'an earlier version'}"
        )


def misfit(found: Any, like: Any, key: str) -> str | None:
    """Returns in what a saved value is unlike another in names, shape or type; None if it is like
    it. It may hold further names."""
    if isinstance(like, torch.Tensor):
        return misfit_of_tensor(found, like.shape, key, like.dtype)
    if isinstance(like, dict):
        if not isinstance(found, dict):
            return f"{key} is no mapping"
        for name, value in like.items():
            path = f"{key}.{name}" if key else str(name)
            if name not in found:
                return f"{path} is missing"
            if problem := misfit(found[name], value, path):
                return problem
        return None
    if isinstance(like, list | tuple):
        if not isinstance(found, list | tuple) or len(found) != len(like):
            return f"{key} is no list of {len(like)}"
        both = enumerate(zip(found, like, strict=True))
        return next((p for i, (a, b) in both if (p := misfit(a, b, f"{key}.{i}"))), None)
    if like is None or isinstance(like, bool | str):
        return None if type(found) is type(like) else f"{key} is not like {like!r}"
    if type(found) not in (int, type(like)) or not abs(found) < 2**63 or math.isnan(found):
        return f"{key} is no {'whole ' * isinstance(like, int)}number"
    return f"{key} is negative" if isinstance(like, int) and found < min(like, 0) else None


def misfit_of_tensor(
    found: Any, shape: tuple[int, ...], key: str, dtype: torch.dtype | None = None
) -> str | None:
    if not isinstance(found, torch.Tensor) or found.layout != torch.strided or found.is_quantized:
        return f"{key} is no tensor"
    if found.shape != shape:
        return f"{key} has the shape {tuple(found.shape)}, not {tuple(shape)}"
    if dtype and found.dtype != dtype:
        return f"{key} is of {found.dtype}, not {dtype}"
    # Of several numbers that are one in memory, updates in place would make anything.
    shares = any(size > 1 and not step for size, step in zip(shape, found.stride(), strict=True))
    return f"{key} has numbers that share memory" if shares else None


def misfit_of_recent(found: Any) -> str | None:
    if not isinstance(found, list) or not all(isinstance(step, dict) for step in found):
        return "recent is no list of losses"
    for step in found:
        for value in step.values():
            is_number = isinstance(value, int | float)
            if step.keys() != found[0].keys() or (
                not is_number and misfit_of_tensor(value, (), "recent")
            ):
                return "recent is no list of losses"
    return None


def misfit_of_random(found: Any, like: list[dict[str, Any]], rank: int) -> str | None:
    """Only this process's generators are looked at, and of them those that it has here."""
    if not isinstance(found, list) or not found:
        return "random is no list of states"
    if len(found) != len(like):
        return None  # seeded anew
    own = {k: v for k, v in like[rank].items() if k != "cuda" or "cuda" in found[rank]}
    if problem := misfit(found[rank], own, f"random.{rank}"):
        return problem
    position = found[rank]["numpy"]["pos"]
    return "random.numpy.pos is not from 0 to 624" if not 0 <= position <= 624 else None


def misfit_of_optimiser(
    found: Any, like: dict[str, Any], shapes: Mapping[int, Mapping[str, tuple[int, ...]]]
) -> str | None:
    """`shapes` are those of `state_shapes`. A parameter that had no gradient yet has no state, and
    earlier versions did not name the parts of a model."""
    groups = [{k: v for k, v in group.items() if k != "part"} for group in like["param_groups"]]
    if problem := misfit(found, {"param_groups": groups, "state": {}}, "optimiser"):
        return problem
    if any(a["params"] != b["params"] for a, b in pairs(found, like)):
        return "optimiser.param_groups has other parameters"
    for index, values in found["state"].items():
        path = f"optimiser.state.{index}"
        wanted = shapes.get(index)
        if wanted is None or not isinstance(values, dict) or values.keys() != wanted.keys():
            return f"{path} is not what the optimiser keeps of a parameter"
        for name, shape in wanted.items():
            if problem := misfit_of_tensor(values[name], shape, f"{path}.{name}"):
                return problem
    return None


def pairs(found: dict[str, Any], like: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    return zip(found["param_groups"], like["param_groups"], strict=True)
