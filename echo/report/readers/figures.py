"""Figures as the table of models shows them."""

from collections.abc import Mapping
from typing import Any

from echo.report.result import Figure

RTFX = "seconds of audio transcribed in a second"
Spread = Mapping[str, float]  # mean, least and most over seeds


def figure(
    name: str,
    unit: str,
    found: Mapping[str, Any],
    form: str,
    scale: float = 1.0,
    note: str = "",
    is_cost: bool = False,
) -> Figure | None:
    """A row of the table; None where no model has such a figure.

    Args:
        found: by model, a number, its spread over seeds, or None.
        form: how Python formats it.
        scale: what it is multiplied by to be in the unit.
        is_cost: whether the verdict's sentence about cost has it.
    """
    known = {model: value for model, value in found.items() if value is not None}
    if not known:
        return None
    shown = {model: as_shown(value, form, scale, unit) for model, value in known.items()}
    numbers = {
        model: scale * (value["mean"] if isinstance(value, Mapping) else value)
        for model, value in known.items()
    }
    return Figure(name, shown, numbers, note, is_cost)


def as_shown(value: float | Spread, form: str, scale: float, unit: str) -> str:
    number = scale * (value["mean"] if isinstance(value, Mapping) else value)
    return f"{number:{form}} {unit}".strip()
