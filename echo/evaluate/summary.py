"""A result as Markdown, for the terminal and for files: the verdict, the tables and what explains
them. The page says the same."""

from collections.abc import Sequence
from itertools import chain

from echo.evaluate.result import Figure, Measure, Result
from echo.evaluate.verdict import INTERVAL, LUCK, ONLY_ONE, capitalised, sure, verdict
from echo.support.text import escape_markdown, percent, table


def render(result: Result) -> str:
    """Returns the whole summary, in paragraphs."""
    found = verdict(result)
    parts = [
        f"**{escape_markdown(found.headline)}**",
        *map(escape_markdown, (". ".join(found.luck or ()), found.sure, *found.notes, found.cost)),
        model_table(result),
        error_table(result.measures),
        explanation(result),
    ]
    for title, lines in sentences(result).items():
        listed = "\n".join(f"- {escape_markdown(line)}" for line in lines)
        parts += [f"## {escape_markdown(title)}", listed]
    return "\n\n".join(part for part in parts if part) + "\n"


def sentences(result: Result) -> dict[str, list[str]]:
    """Returns by title how each model differs from the baseline and whether that may be luck, but
    for what the verdict says already, and the result's remarks."""
    found: dict[str, list[str]] = {}
    for i, measure in enumerate(result.measures):
        if measure.differences and (i or len(measure.differences) > 1):
            found[f"Against {result.baseline}, by {measure.rates.name}"] = [
                f"{one.model}: {sure(one, result.resampling)} {LUCK[one.certainty][0]}."
                for one in measure.differences
            ]
    return found | {title: [*lines] for title, lines in result.remarks.items() if lines}


def model_table(result: Result) -> str:
    """A row for each model, without the columns that are empty for all."""
    texts = [*dict.fromkeys(key for about in result.about.values() for key in about)]
    return table(
        ["model", *texts, *(figure.name for figure in result.columns)],
        [
            [
                escape_markdown(model),
                *(escape_markdown(result.about[model].get(key, "")) for key in texts),
                *(cell(figure, model) for figure in result.columns),
            ]
            for model in result.models
        ],
        texts=1 + len(texts),
    )


def cell(figure: Figure, model: str) -> str:
    """ "mean (least to most)", or just the mean if all are equal."""
    extent = figure.extent(model)
    return figure.shown(model) + (f" ({extent})" if extent else "")


def error_table(measures: Sequence[Measure]) -> str:
    """The counts of errors with the intervals of their rates, where they are known."""
    rows = [
        [
            escape_markdown(model),
            measure.rates.name,
            percent(found["rate"]),
            span(found["interval"]),
            *(str(found[key]) for key in ("insertions", "deletions", "substitutions", "reference")),
        ]
        for model in dict.fromkeys(chain.from_iterable(measure.counts for measure in measures))
        for measure in measures
        if (found := measure.counts.get(model))
    ]
    header = ["model", "rate", "value", INTERVAL, "ins", "del", "sub", "words"]
    return table(header, rows, texts=2) if rows else ""


def span(interval: Sequence[float] | None) -> str:
    return "" if interval is None else " to ".join(f"{100 * end:.2f}" for end in interval)


def explanation(result: Result) -> str:
    """How the figures were measured, and what they are."""
    notes = [f"{figure.name}: {figure.note}." for figure in result.columns if figure.note]
    sentences = [*result.measured, *notes, drawing(result)]
    return escape_markdown(" ".join(sentence for sentence in sentences if sentence))


def drawing(result: Result) -> str:
    """What the intervals are."""
    found = result.resampling
    if found is None or not any(measure.differences for measure in result.measures):
        return ""
    if found.units == 1:
        return capitalised(ONLY_ONE.format(found.unit))
    return (
        f"Intervals hold {100 * found.level:g} % of {found.resamples:,} bootstrap resamples of the "
        f"{found.units} {found.unit}s{' and the seeds' if (found.seeds or 1) > 1 else ''}; ties "
        "count half."
    )
