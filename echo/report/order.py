"""Which utterances tell most: those that changed most, and the worst."""

import numpy as np

from echo.report.result import Result

FIRST = 20


def telling(result: Result) -> dict[str, list[int]]:
    """The indices of the utterances that `changed` most from the baseline to any other model, and
    the `worst`, by errors of all models. At most 20 of each; none of those without errors."""
    errors = result.errors(result.view)
    base = result.models.index(result.baseline)
    by_model = errors.mean(1)
    changes = np.abs(by_model - by_model[base]).max(0)
    return {
        "changed": largest(changes) if len(result.models) > 1 else [],
        "worst": largest(by_model.mean(0)),
    }


def largest(values: np.ndarray) -> list[int]:
    """The indices of the largest values above 0, the first of equals first."""
    order = np.argsort(-values, kind="stable")[:FIRST]
    return [int(i) for i in order if values[i] > 0]
