"""WER by group of utterances, with intervals."""

from collections.abc import Mapping
from dataclasses import dataclass

from echo.evaluate.groups import DATA_SET, group
from echo.evaluate.result import Result
from echo.evaluate.statistics import Estimate, bootstrap, resampling_units

RESAMPLES = 2_000  # an end of an interval is then sure to a few per cent of its width


@dataclass(frozen=True)
class Group:
    label: str
    utterances: int
    rates: Mapping[str, Estimate]  # by model; without an interval for a single utterance


def groups_of(result: Result) -> dict[str, dict[str, list[int]]]:
    """Returns indices of utterances by column and value: by data set, speaker and band of duration
    where there are two or more, and by the columns that the result names, if the data are found."""
    found = {column: group(result.lines, column) for column in (DATA_SET, "duration", "speaker")}
    found = {column: groups for column, groups in found.items() if len(groups) > 1}
    known = [i for i, line in enumerate(result.lines) if line.extra]
    for column in result.by if known else ():
        groups = group([result.lines[i] for i in known], column)
        found.setdefault(column, {n: [known[i] for i in some] for n, some in groups.items()})
    return found


def group_rates(result: Result) -> dict[str, list[Group]]:
    """Returns the WER of each model in each group, by column; those with the most errors first.

    Intervals are over utterances, and over trainings where there are several.
    """
    errors, words = result.errors(result.view), result.words(result.view)

    def rates(indices: list[int]) -> dict[str, Estimate]:
        found, _ = bootstrap(errors[..., indices], words[indices], indices, resamples=RESAMPLES)
        return dict(zip(result.models, found, strict=True))

    found = {
        column: [Group(label, len(indices), rates(indices)) for label, indices in groups.items()]
        for column, groups in groups_of(result).items()
    }
    for column, groups in found.items():
        if column != "duration":
            groups.sort(key=lambda group: -max(rate.value for rate in group.rates.values()))
    return found


def overall_rates(result: Result) -> dict[str, Estimate]:
    """Returns the WER of each model on all utterances, or the average over several data sets, with
    intervals over speakers if there are enough, as a comparison records them."""
    sets = [line.set for line in result.lines]
    _, units = resampling_units([line.speaker for line in result.lines], sets)
    found, _ = bootstrap(result.errors(result.view), result.words(result.view), units, sets=sets)
    return dict(zip(result.models, found, strict=True))
