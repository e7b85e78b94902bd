"""Models that were trained with several seeds, and how much their errors differ."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from echo.evaluate.statistics import Estimate, bootstrap
from echo.evaluate.wer import ErrorCounts


def by_model(runs: Sequence[str]) -> dict[str, list[str]]:
    """Groups runs named `seed-N` by their folder, as a pilot writes them; others are models of one
    run."""
    models = defaultdict(list)
    for run in runs:
        path = Path(run)
        models[path.parent.name if path.name.startswith("seed-") else run].append(run)
    return dict(models)


def estimates(
    counted: Mapping[str, Sequence[Sequence[ErrorCounts]]],
) -> dict[str, tuple[Estimate, Estimate]]:
    """Returns each model's error rate, and how it differs from the first model's, with intervals
    over seeds and utterances, from the counts of each run and utterance."""
    if not counted:
        return {}
    errors = [[[each.errors for each in run] for run in runs] for runs in counted.values()]
    words = [each.reference for each in next(iter(counted.values()))[0]]
    found = bootstrap(np.array(errors), np.array(words), range(len(words)))
    return dict(zip(counted, zip(*found, strict=True), strict=True))


def percent(estimate: Estimate, digits: int = 1) -> str:
    assert estimate.interval is not None
    value, low, high = (f"{100 * x:.{digits}f}" for x in (estimate.value, *estimate.interval))
    return f"{value} ({low} to {high})"
