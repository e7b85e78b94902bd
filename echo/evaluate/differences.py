"""Differences between models evaluated on the same utterances, with confidence intervals."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from echo.evaluate.evaluation import Evaluation, macro_average
from echo.evaluate.groups import group
from echo.evaluate.statistics import Resampling, bootstrap, resampling_units
from echo.evaluate.wer import total

Evaluations = Mapping[str, Evaluation]  # by model name; all on the same utterances

# Each WER, and the field of an Evaluation that has its counts per utterance.
WERS = {"wer": "words", "wer_normalised": "words_normalised"}


def error_rates(evaluations: Evaluations, averaged: bool = False) -> dict[str, Any]:
    """Computes every model's error rates, and how each model's WER differs from the first one's:
    of all utterances, or `averaged` over data sets.

    Returns:
        `resampling`: the unit that was drawn, and how often. `rates`: error counts by model; word
        errors also have an `interval`. Averages have no counts. `differences`: for each model
        except the first, the difference in WER, its interval, and the share of resamples in which
        the model is `better`. Intervals and shares are None if there is only one unit to draw.
    """
    utterances = next(iter(evaluations.values())).transcripts.utterances
    speakers = [utterance.speaker for utterance in utterances]
    sets = [utterance.set for utterance in utterances] if averaged else None
    _, units = resampling_units(speakers, sets)
    rates = {
        name: macro_average(e.sets().values()) if averaged else e.rates()
        for name, e in evaluations.items()
    }
    differences: dict[str, Any] = {name: {} for name in [*evaluations][1:]}
    for wer, by_utterance in WERS.items():
        counts = [getattr(e, by_utterance) for e in evaluations.values()]
        errors = np.array([[c.errors for c in row] for row in counts])
        found = bootstrap(errors, np.array([c.reference for c in counts[0]]), units, sets=sets)
        for name, rate, gap in zip(evaluations, *found, strict=True):
            rates[name][wer]["interval"] = rate.interval
            if name in differences:
                differences[name][wer] = gap.to_dict()
    resampling = asdict(Resampling.of(speakers, sets=sets))
    return {"resampling": resampling, "rates": rates, "differences": differences}


def error_rates_by_set(evaluations: Evaluations) -> dict[str, Any]:
    """Returns `error_rates` of all utterances. Of several data sets also those of each, `sets` by
    name with the number of utterances, and their mean, `macro_average`."""
    found = error_rates(evaluations)
    parts = {name: evaluation.sets() for name, evaluation in evaluations.items()}
    first, *_ = parts.values()
    if len(first) < 2:
        return found
    sets = {name: {model: own[name] for model, own in parts.items()} for name in first}
    found["sets"] = {
        name: {**first[name].size(), **error_rates(models)} for name, models in sets.items()
    }
    return {**found, "macro_average": error_rates(evaluations, averaged=True)}


def grouped_errors(evaluations: Evaluations, column: str) -> list[dict[str, Any]]:
    """Counts the word errors of all models in each group; see `echo.evaluate.groups`."""
    utterances = next(iter(evaluations.values())).transcripts.utterances
    return [
        {
            "group": label,
            "utterances": len(indices),
            "models": {
                name: {
                    wer: total([getattr(e, by_utterance)[i] for i in indices]).to_dict()
                    for wer, by_utterance in WERS.items()
                }
                for name, e in evaluations.items()
            },
        }
        for label, indices in group(utterances, column).items()
    ]


def most_changed(one: Evaluation, other: Evaluation, most: int = 10) -> list[dict[str, Any]]:
    """Returns the utterances whose word error counts differ most between two models, with the texts
    and errors of both: by normalised errors, and where these tie, by errors as written."""

    def change(i: int) -> tuple[int, int]:
        normalised = other.words_normalised[i].errors - one.words_normalised[i].errors
        return abs(normalised), abs(other.words[i].errors - one.words[i].errors)

    changed = [i for i in range(len(one.words)) if any(change(i))]
    return [
        {"id": one.transcripts.utterances[i].id, **texts_and_errors(one, other, i)}
        for i in sorted(changed, key=change, reverse=True)[:most]
    ]


def texts_and_errors(one: Evaluation, other: Evaluation, i: int) -> dict[str, Any]:
    """For each kind of WER: the reference, both hypotheses, and their word errors."""
    return {
        wer: {
            "words": getattr(one, WERS[wer])[i].reference,
            "errors": [getattr(e, WERS[wer])[i].errors for e in (one, other)],
            "reference": getattr(one, f"references{suffix}")[i],
            "hypotheses": [getattr(e, f"hypotheses{suffix}")[i] for e in (one, other)],
        }
        for wer, suffix in (("wer", ""), ("wer_normalised", "_normalised"))
    }
