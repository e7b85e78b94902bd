"""Curves of training, and of what the attention learned, as the page draws them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from echo.attention.forms import resolve_layers
from echo.attention.settings import FocusedSettings
from echo.evaluate.result import Event, Result, Run
from echo.model.geometry import ENCODER_FRAME_SECONDS

LAYER_COLOURS = 2  # from here on, so that layers do not look like the first two models
MOST_POINTS = 1000  # of a line: more than a page is wide
LOWEST_LOSS, LOWEST_WER = 1e-3, 0.1  # a logarithmic axis cannot show 0


@dataclass(frozen=True)
class Curve:
    """A line: one value of one run during training."""

    group: int  # of lines in the same colour
    name: str
    steps: list[int]
    seconds: list[float]
    values: list[float]


@dataclass(frozen=True)
class Chart:
    title: str
    unit: str
    log: bool
    curves: list[Curve]


def training_charts(result: Result) -> list[Chart]:
    """Loss and WER against steps and seconds of training, for all runs."""
    charts = (
        Chart("Training loss", "", True, run_curves(result, "train", "loss", 1, LOWEST_LOSS)),
        Chart("WER during training", "%", True, run_curves(result, "eval", "wer", 100, LOWEST_WER)),
    )
    return [chart for chart in charts if chart.curves]


def run_curves(result: Result, *what: Any) -> list[Curve]:
    curves = [curve(run, result.models.index(run.model), run.name, *what) for run in result.runs]
    return [each for each in curves if each.values]


def attention_charts(result: Result) -> dict[str, list[Chart]]:
    """Span, temperature and gain of each focused layer, by model."""
    found = {}
    for model in result.models:
        runs = [result.runs[i] for i in result.runs_of(model)]
        spans = max_spans(result.configs.get(model) or {})
        milliseconds = {layer: 1000 * ENCODER_FRAME_SECONDS * s for layer, s in spans.items()}
        charts = [
            Chart(title, unit, False, layer_curves(runs, prefix, scales))
            for title, unit, prefix, scales in (
                ("Span in the encoder", "ms", "span/encoder", milliseconds),
                ("Span in the decoder", "tokens", "span/decoder", spans),
                ("Temperature", "", "temperature/", None),
                ("Gain of the local branch", "", "gain/", None),
            )
        ]
        if charts := [chart for chart in charts if chart.curves]:
            found[model] = charts
    return found


def max_spans(config: Mapping[str, Any]) -> dict[str, float]:
    """The widest span of each focused layer, in positions, by the name that training logs."""
    found: dict[str, float] = {}
    model = config.get("model") or {}
    for stack, form in (model.get("attention") or {}).items():
        layers = resolve_layers(form, model[f"{stack}_layers"], stack) if form else []
        for i, settings in enumerate(layers):
            if isinstance(settings, FocusedSettings):
                found[f"{stack}.{i}"] = float(settings.max_span)
    return found


def layer_curves(
    runs: Sequence[Run], prefix: str, scales: Mapping[str, float] | None
) -> list[Curve]:
    """What training logs for each layer as `KEY/LAYER`, by the beginning of that, times the layer's
    scale; layers without one are left out, unless there are no scales."""
    logged = {name for run in runs for event in run.events for name in event}
    names = sorted(name for name in logged if name.startswith(prefix))
    layers = {name: name.partition("/")[2] for name in names}
    if scales is not None:
        layers = {name: layer for name, layer in layers.items() if layer in scales}
    return [
        curve(
            run,
            LAYER_COLOURS + group,
            layer if run.seed is None else f"{layer}, seed {run.seed}",
            "train",
            name,
            1.0 if scales is None else scales[layer],
        )
        for group, (name, layer) in enumerate(layers.items())
        for run in runs
    ]


def curve(
    run: Run,
    group: int,
    name: str,
    kind: str,
    key: str,
    scale: float,
    lowest: float = -math.inf,
) -> Curve:
    """A value that events of a kind have, scaled, and raised to `lowest` where it is lower."""
    events = thinned([e for e in run.events if e["kind"] == kind and e.get(key) is not None])
    return Curve(
        group,
        name,
        [event["step"] for event in events],
        [round(event.get("seconds", 0.0), 2) for event in events],
        [float(f"{max(scale * event[key], lowest):.4g}") for event in events],
    )


def thinned(events: Sequence[Event]) -> Sequence[Event]:
    """Evenly chosen events, the last one among them."""
    stride = -(-len(events) // MOST_POINTS) or 1
    return events[(len(events) - 1) % stride :: stride]
