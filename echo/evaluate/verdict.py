"""The verdict in words: who is better, by how much, how sure that is, and what it cost."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from echo.evaluate.result import Certainty, Difference, Figure, Result
from echo.evaluate.statistics import LEVEL, Resampling

INTERVAL = f"{100 * LEVEL:g} % interval"
LUCK: dict[Certainty, tuple[str, str]] = {  # in short, and in a sentence
    "sure": ("Hardly luck", f"Zero lies outside the {INTERVAL} of the difference."),
    "unsure": ("May be luck", f"Zero lies within the {INTERVAL} of the difference."),
    "one seed": (
        "One seed",
        "On these utterances the difference is hardly luck, but another seed may turn it.",
    ),
    "unknown": ("Luck or not: unknown", "There is too little to resample."),
}
ONLY_ONE = "there is only one {}, so nothing says how sure that is."
SAME = "about the same"
EQUAL = 0.03  # of a figure: below, two models count as equal in it
TIMES = 1.5  # from here on, a figure is so many times another, rather than so many per cent more


@dataclass(frozen=True)
class Verdict:
    """What a result comes to, in sentences."""

    headline: str
    sure: str = ""  # the difference with its interval, and over what
    cost: str = ""
    notes: Sequence[str] = ()
    compared: Difference | None = None
    # How each model's figures compare with the baseline's, by the figure's name and the model.
    changes: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def certainty(self) -> Certainty | None:
        return self.compared.certainty if self.compared else None

    @property
    def luck(self) -> tuple[str, str] | None:
        return LUCK[self.certainty] if self.certainty else None


def verdict(result: Result) -> Verdict:
    """Says who is better. Of several models, the one with the lowest WER beside the baseline is
    named."""
    measure = result.measures[0] if result.measures else None
    if measure is None or not measure.rates.numbers:
        return Verdict(f"{result.models[0]} has not been measured yet.")
    if not measure.differences:
        model = next(iter(measure.rates.numbers))
        over = f"{capitalised(result.resampling.over)}." if result.resampling else ""
        return Verdict(f"{model} gets {words_wrong(measure.rates, model)}.", over)
    best = min(measure.differences, key=lambda difference: difference.value)
    changes = {
        (figure.name, model): change(figure, model, result.baseline)
        for figure in result.figures
        for model in result.models
        if model != result.baseline
    }
    said = sure(best, result.resampling), cost(result.figures, best.model, best.baseline)
    return Verdict(headline(measure.rates, best), *said, notes(result), best, changes)


def words_wrong(rates: Figure, model: str) -> str:
    return f"{percent(rates.numbers[model].mean)} of the words wrong"


def headline(rates: Figure, difference: Difference) -> str:
    model, baseline = difference.model, difference.baseline
    other = rates.numbers[baseline].mean
    if difference.value == 0:
        return f"{model} and {baseline} both get {words_wrong(rates, model)}."
    text = f"{model} gets {words_wrong(rates, model)}, {baseline} {percent(other)}"
    if other == 0:
        return f"{text}."
    fewer = "fewer" if difference.value < 0 else "more"
    return f"{text}: {100 * abs(difference.value) / other:.0f} % {fewer} errors."


def sure(difference: Difference, resampling: Resampling | None) -> str:
    """ "1.80 points better than whisper; 95 % interval 2.60 points better to 0.90 points better,
    over ...; better in 99.0 % of resamples." """
    text = f"{points(difference.value)} than {difference.baseline}"
    if difference.value == 0:
        text = f"the same WER as {difference.baseline}"
    if difference.interval is None:
        unit = resampling.unit if resampling else "utterance"
        return f"{text}; {ONLY_ONE.format(unit)}"
    low, high = sorted(difference.interval)
    over = f", {resampling.over}" if resampling else ""
    text += f"; {INTERVAL} {points(low)} to {points(high)}{over}"
    if difference.better is not None:
        is_better = difference.value <= 0
        share = difference.better if is_better else 1 - difference.better
        text += f"; {'better' if is_better else 'worse'} in {100 * share:.1f} % of resamples"
    return f"{text}."


def points(difference: float) -> str:
    """A difference of error rates in percentage points."""
    return f"{100 * abs(difference):.2f} points {'better' if difference <= 0 else 'worse'}"


def notes(result: Result) -> list[str]:
    models = len(result.measures[0].differences)
    if models < 2:
        return []
    return [
        f"It is the best of {models} models that are compared with {result.baseline}; the best of "
        "several looks better than it is."
    ]


def cost(figures: Sequence[Figure], model: str, baseline: str) -> str:
    """What the models cost, in a sentence."""
    parts = []
    for figure in figures:
        if not figure.is_cost or not {model, baseline} <= figure.numbers.keys():
            continue
        changed = change(figure, model, baseline)
        against = f"against {figure.shown(baseline)} ({changed})"
        same = changed == SAME or figure.numbers[model].mean == figure.numbers[baseline].mean
        parts.append(f"{figure.in_words} {figure.shown(model)} {'for both' if same else against}")
    return f"Cost of {model} against {baseline}: {'; '.join(parts)}." if parts else ""


def change(figure: Figure, model: str, baseline: str) -> str:
    """ "−40 %" or "1.8 times", of the baseline's figure; empty if one has none or it is 0."""
    if not {model, baseline} <= figure.numbers.keys() or not figure.numbers[baseline].mean:
        return ""
    ratio = figure.numbers[model].mean / figure.numbers[baseline].mean
    if abs(ratio - 1) < EQUAL:
        return SAME
    if ratio >= TIMES:
        return f"{ratio:.1f} times"
    return f"{100 * (ratio - 1):+.0f} %".replace("-", "−")


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def percent(rate: float) -> str:
    return f"{100 * rate:.1f} %" if rate >= 0.1 else f"{100 * rate:.2f} %"
