"""WER by group of utterances, with intervals."""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from echo.data.utterance import Utterance
from echo.evaluate.differences import resampling_units
from echo.evaluate.groups import MISSING, band, group, natural
from echo.evaluate.statistics import interval, resampled_rates
from echo.report.result import Line, Result

RESAMPLES = 2_000  # an end of an interval is then sure to a few per cent of its width


@dataclass(frozen=True)
class Rate:
    value: float
    interval: tuple[float, float] | None  # None for a single utterance


@dataclass(frozen=True)
class Group:
    label: str
    utterances: int
    rates: Mapping[str, Rate]  # by model


def by_speaker_and_duration(lines: Sequence[Line]) -> dict[str, dict[str, list[int]]]:
    """Indices of utterances by speaker and by band of duration, where there are two or more."""
    found: dict[str, defaultdict[str, list[int]]] = {
        "duration": defaultdict(list),
        "speaker": defaultdict(list),
    }
    for i, line in enumerate(lines):
        found["duration"][band(line.duration)].append(i)
        found["speaker"][line.speaker or MISSING].append(i)
    return {
        column: {label: groups[label] for label in sorted(groups, key=natural)}
        for column, groups in found.items()
        if len(groups) > 1
    }


def by_columns(result: Result, found: Mapping[str, Utterance]) -> dict[str, dict[str, list[int]]]:
    """Indices of utterances by the columns that the result names, as far as the data are found.

    Args:
        found: utterances with the data set's columns, by id.
    """
    known = [i for i, line in enumerate(result.lines) if line.id in found]
    utterances = [found[result.lines[i].id] for i in known]
    return {
        column: {
            label: [known[i] for i in indices]
            for label, indices in group(utterances, column).items()
        }
        for column in result.by
        if column not in result.groups and utterances
    }


def group_rates(result: Result) -> dict[str, list[Group]]:
    """The WER of each model in each group, by column; speakers with the most errors first.

    Intervals are over utterances, and over trainings where there are several.
    """
    errors, words = result.errors(result.view), result.words(result.view)
    found = {}
    for column, groups in result.groups.items():
        rates = [
            Group(label, len(indices), rates_of(result, errors[..., indices], words[indices]))
            for label, indices in groups.items()
        ]
        if column != "duration":
            rates.sort(key=lambda group: -max(rate.value for rate in group.rates.values()))
        found[column] = rates
    return found


def overall_rates(result: Result) -> dict[str, Rate]:
    """The WER of each model on all utterances, with intervals over speakers if there are enough."""
    _, units = resampling_units(result.lines)
    return rates_of(result, result.errors(result.view), result.words(result.view), units)


def rates_of(
    result: Result, errors: np.ndarray, words: np.ndarray, units: Sequence[Hashable] | None = None
) -> dict[str, Rate]:
    """The WER of each model on some utterances.

    Args:
        errors: (models, trainings, utterances).
        words: (utterances,).
        units: (utterances,), what is drawn together; by default every utterance alone.
    """
    units = range(len(words)) if units is None else units
    drawn = resampled_rates(errors, words, units, RESAMPLES)
    said = errors.shape[1] * words.sum()
    return {
        model: Rate(
            float(errors[m].sum() / said) if said else float(errors[m].sum() > 0),
            interval(drawn[m]) if len(set(units)) > 1 else None,
        )
        for m, model in enumerate(result.models)
    }
