"""Differences between models evaluated on the same utterances, with confidence intervals."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import astuple
from typing import Any, Protocol

import numpy as np

from echo.evaluate.evaluation import Evaluation
from echo.evaluate.groups import group
from echo.evaluate.statistics import LEVEL, RESAMPLES, SEED, interval, resampled_rates, share_better
from echo.evaluate.wer import ErrorCounts

Evaluations = Mapping[str, Evaluation]  # by model name; all on the same utterances

# Each WER, and the field of an Evaluation that has its counts per utterance.
WERS = {"wer": "words", "wer_normalised": "words_normalised"}

# Errors in utterances of one speaker are correlated, so drawing single utterances makes intervals
# too narrow. Drawing only a handful of speakers does so too (Cameron, Gelbach, Miller 2008,
# "Bootstrap-based improvements for inference with clustered errors").
MIN_SPEAKERS = 20


def error_rates(evaluations: Evaluations) -> dict[str, Any]:
    """Computes every model's error rates, and how each model's WER differs from the first one's.

    Returns:
        `resampling`: the unit that was drawn, and how often. `rates`: error counts by model; word
        errors also have an `interval`. `differences`: for each model except the first, the
        difference in WER, its interval, and the share of resamples in which the model is `better`.
        Intervals and shares are None if there is only one unit to draw.
    """
    unit, units = resampling_units(next(iter(evaluations.values())).transcripts.utterances)
    count = len(set(units))
    first, *others = evaluations
    rates: dict[str, Any] = {
        name: {key: getattr(e, key).to_dict() for key in (*WERS, "cer", "cer_normalised")}
        for name, e in evaluations.items()
    }
    differences: dict[str, Any] = {name: {} for name in others}
    for wer, by_utterance in WERS.items():
        counts = [getattr(e, by_utterance) for e in evaluations.values()]
        errors = np.array([[c.errors for c in row] for row in counts])
        words = np.array([c.reference for c in counts[0]])
        drawn = dict(zip(evaluations, resampled_rates(errors, words, units), strict=True))
        for name in evaluations:
            rates[name][wer]["interval"] = interval(drawn[name]) if count > 1 else None
        for name in others:
            differences[name][wer] = difference(
                rates[name][wer]["rate"] - rates[first][wer]["rate"],
                drawn[name] - drawn[first],
                count,
            )
    return {"resampling": resampling(unit, count), "rates": rates, "differences": differences}


def resampling(unit: str, units: int) -> dict[str, Any]:
    """How the intervals were drawn, from so many units."""
    return {"unit": unit, "units": units, "resamples": RESAMPLES, "level": LEVEL, "seed": SEED}


def difference(measured: float, drawn: np.ndarray, units: int) -> dict[str, Any]:
    """A difference of error rates with its interval and the share of resamples in which it is below
    0; these are None if there is only one unit to draw.

    Args:
        drawn: (resamples,), the difference in each resample.
    """
    sure = units > 1
    return {
        "difference": measured,
        "interval": interval(drawn) if sure else None,
        "better": share_better(drawn) if sure else None,
    }


class Spoken(Protocol):
    """An utterance without its audio: just its id and speaker."""

    @property
    def id(self) -> str: ...

    @property
    def speaker(self) -> str | None: ...


def resampling_units(utterances: Sequence[Spoken]) -> tuple[str, list[Hashable]]:
    """Returns the unit that the bootstrap draws, "speaker" or "utterance", and the speaker or id
    of each utterance."""
    speakers = [u.speaker for u in utterances]
    if None not in speakers and len(set(speakers)) >= MIN_SPEAKERS:
        return "speaker", [*speakers]
    return "utterance", [u.id for u in utterances]


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


def total(counts: Sequence[ErrorCounts]) -> ErrorCounts:
    return ErrorCounts(*(sum(column) for column in zip(*map(astuple, counts), strict=True)))


def most_changed(one: Evaluation, other: Evaluation, most: int = 10) -> list[dict[str, Any]]:
    """Returns the utterances whose word error counts differ most between two models.

    They are ranked by normalised errors; ties are ranked by errors as written. Each entry has the
    texts and errors of both models.
    """

    def change(i: int, by_utterance: str) -> int:
        before, after = (getattr(e, by_utterance)[i].errors for e in (one, other))
        return abs(after - before)

    sizes = [(change(i, "words_normalised"), change(i, "words"), i) for i in range(len(one.words))]
    largest = sorted((s for s in sizes if any(s[:2])), key=lambda s: (-s[0], -s[1]))
    return [
        {"id": one.transcripts.utterances[i].id, **texts_and_errors(one, other, i)}
        for *_, i in largest[:most]
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
