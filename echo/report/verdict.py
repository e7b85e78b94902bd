"""The verdict in words: who is better, by how much, how sure that is, and what it cost."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from echo.report.result import Certainty, Difference, Figure, Result

LUCK: dict[Certainty, str] = {
    "sure": "Zero lies outside the 95 % interval of the difference.",
    "unsure": "Zero lies within the 95 % interval of the difference.",
    "one seed": "On these utterances the difference is hardly luck, but another seed may turn it.",
    "unknown": "There is too little to resample.",
}
EQUAL = 0.03  # of a figure: below, two models count as equal in it
TIMES = 1.5  # from here on, a figure is so many times another, rather than so many per cent more
FEW_SEEDS = 10  # fewer say little about how much other seeds would differ


@dataclass(frozen=True)
class Verdict:
    headline: str
    sure: str = ""  # what the interval is, and over what
    cost: str = ""  # in a sentence
    notes: Sequence[str] = ()
    compared: Difference | None = None
    # How each model's figures compare with the baseline's, by the figure's name and the model.
    changes: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def certainty(self) -> Certainty | None:
        return self.compared.certainty if self.compared else None

    @property
    def luck(self) -> str:
        return LUCK[self.certainty] if self.certainty else ""


def verdict(result: Result) -> Verdict:
    """Says who is better. Of several models, the one with the lowest WER beside the baseline is
    named."""
    if not result.rates:
        return Verdict(f"{result.models[0]} has not been measured yet.")
    if not result.differences:
        [(model, rate), *_] = result.rates.items()
        return Verdict(f"{model} gets {percent(rate)} of the words wrong.", sure=result.drawn)
    best = min(result.differences, key=lambda difference: difference.value)
    return Verdict(
        headline(result, best),
        sure(best, result.drawn),
        cost(result.figures, best.model, best.baseline),
        notes(result),
        best,
        {
            (figure.name, model): change(figure, model, result.baseline)
            for figure in result.figures
            for model in result.models
            if model != result.baseline
        },
    )


def headline(result: Result, difference: Difference) -> str:
    model, baseline = difference.model, difference.baseline
    own, other = result.rates[model], result.rates[baseline]
    if difference.value == 0:
        return f"{model} and {baseline} both get {percent(own)} of the words wrong."
    text = f"{model} gets {percent(own)} of the words wrong, {baseline} {percent(other)}"
    if other == 0:
        return f"{text}."
    fewer = "fewer" if difference.value < 0 else "more"
    return f"{text}: {100 * abs(difference.value) / other:.0f} % {fewer} errors."


def sure(difference: Difference, drawn: str) -> str:
    """What the interval is, and over what."""
    if difference.interval is None:
        return drawn
    ends = " to ".join(
        f"{100 * abs(end):.2f} points {'better' if end < 0 else 'worse'}"
        for end in sorted(difference.interval)
    )
    is_better = difference.value <= 0
    text = f"{100 * abs(difference.value):.2f} points {'better' if is_better else 'worse'}"
    text += f"; 95 % interval {ends}, {drawn}"
    if difference.better is not None:
        share = difference.better if is_better else 1 - difference.better
        text += f"; {'better' if is_better else 'worse'} in {100 * share:.1f} % of resamples"
    return f"{text}."


def notes(result: Result) -> list[str]:
    found = []
    seeds = len(result.runs_of(result.baseline))
    if result.kind == "pilot" and 1 < seeds < FEW_SEEDS:
        found.append(f"With only {seeds} seeds the interval is too narrow.")
    if len(result.differences) > 1:
        found.append(
            f"It is the best of {len(result.differences)} models that are compared with "
            f"{result.baseline}; the best of several looks better than it is."
        )
    return found


def cost(figures: Sequence[Figure], model: str, baseline: str) -> str:
    """What the models cost, in a sentence."""
    parts = []
    for figure in figures:
        if not figure.is_cost or not {model, baseline} <= figure.numbers.keys():
            continue
        own, other = figure.values[model], figure.values[baseline]
        if is_equal(figure, model, baseline):
            parts.append(f"{figure.in_words} {own} for both")
        else:
            parts.append(
                f"{figure.in_words} {own} against {other} ({change(figure, model, baseline)})"
            )
    return f"Cost of {model} against {baseline}: {'; '.join(parts)}." if parts else ""


def change(figure: Figure, model: str, baseline: str) -> str:
    """ "−40 %" or "1.8 times", of the baseline's figure; empty if one has none or it is 0."""
    own, other = figure.numbers.get(model), figure.numbers.get(baseline)
    if own is None or not other:
        return ""
    if is_equal(figure, model, baseline):
        return "about the same"
    ratio = own / other
    if ratio >= TIMES:
        return f"{ratio:.1f} times"
    return f"{100 * (ratio - 1):+.0f} %".replace("-", "−")


def is_equal(figure: Figure, model: str, baseline: str) -> bool:
    own, other = figure.numbers[model], figure.numbers[baseline]
    return own == other or (other != 0 and abs(own / other - 1) < EQUAL)


def percent(rate: float) -> str:
    return f"{100 * rate:.1f} %" if rate >= 0.1 else f"{100 * rate:.2f} %"
