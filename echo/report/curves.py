"""Curves of training, and of what the attention learned, as the page draws them."""

import math
from collections.abc import Iterator, Mapping, Sequence
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
    groups: list[str]  # by colour
    curves: list[Curve]


def training_charts(result: Result) -> list[Chart]:
    """Loss and WER against steps and seconds of training, for all runs."""
    charts = []
    for title, unit, kind, key, scale, lowest in (
        ("Training loss", "", "train", "loss", 1.0, LOWEST_LOSS),
        ("WER during training", "%", "eval", "wer", 100.0, LOWEST_WER),
    ):
        curves = [
            curve(
                run,
                kind,
                key,
                result.models.index(run.model),
                run.name,
                scale,
                lowest,
            )
            for run in result.runs
        ]
        charts.append(Chart(title, unit, True, result.models, [c for c in curves if c.values]))
    return [chart for chart in charts if chart.curves]


def attention_charts(result: Result) -> dict[str, list[Chart]]:
    """Span, temperature and gain of each focused layer, by model."""
    found = {}
    for model in result.models:
        runs = [result.runs[i] for i in result.runs_of(model)]
        spans = max_spans(result.configs.get(model) or {})
        charts = [
            chart
            for title, unit, key, stack, scales in (
                ("Span in the encoder", "ms", "span", "encoder", milliseconds(spans)),
                ("Span in the decoder", "tokens", "span", "decoder", spans),
                ("Temperature", "", "temperature", "", None),
                ("Gain of the local branch", "", "gain", "", None),
            )
            if (chart := layer_chart(runs, title, unit, key, stack, scales)).curves
        ]
        if charts:
            found[model] = charts
    return found


def milliseconds(spans: Mapping[str, float]) -> dict[str, float]:
    return {layer: 1000 * ENCODER_FRAME_SECONDS * span for layer, span in spans.items()}


def max_spans(config: Mapping[str, Any]) -> dict[str, float]:
    """The widest span of each focused layer, in positions, by the name that training logs."""
    found: dict[str, float] = {}
    model = config.get("model") or {}
    for stack in ("encoder", "decoder"):
        form = (model.get("attention") or {}).get(stack)
        if form is None:
            continue
        layers = resolve_layers(form, model[f"{stack}_layers"], stack)
        found |= {
            f"{stack}.{i}": float(settings.max_span)
            for i, settings in enumerate(layers)
            if isinstance(settings, FocusedSettings)
        }
    return found


def layer_chart(
    runs: Sequence[Run],
    title: str,
    unit: str,
    key: str,
    stack: str,
    scales: Mapping[str, float] | None,
) -> Chart:
    """A value that training logs for each layer as `KEY/LAYER`.

    Args:
        stack: what the layer's name begins with.
        scales: factor by layer; layers without one are left out. None scales nothing.
    """
    logged = dict.fromkeys(
        name
        for run in runs
        for event in run.events
        for name in event
        if name.startswith(f"{key}/{stack}")
    )
    layers = [name.removeprefix(f"{key}/") for name in logged]
    layers = sorted(layer for layer in layers if scales is None or layer in scales)
    curves = [
        curve(
            run,
            "train",
            f"{key}/{layer}",
            LAYER_COLOURS + group,
            layer if run.seed is None else f"{layer}, seed {run.seed}",
            1.0 if scales is None else scales[layer],
        )
        for group, layer in enumerate(layers)
        for run in runs
    ]
    return Chart(title, unit, False, layers, curves)


def curve(
    run: Run,
    kind: str,
    key: str,
    group: int,
    name: str,
    scale: float,
    lowest: float = -math.inf,
) -> Curve:
    """A value that events of a kind have, scaled, and raised to `lowest` where it is lower."""
    events = [*thinned([e for e in run.events if e["kind"] == kind and e.get(key) is not None])]
    return Curve(
        group,
        name,
        [event["step"] for event in events],
        [round(event.get("seconds", 0.0), 2) for event in events],
        [float(f"{max(scale * event[key], lowest):.4g}") for event in events],
    )


def thinned(events: Sequence[Event]) -> Iterator[Event]:
    """Evenly chosen events, the last one among them."""
    stride = -(-len(events) // MOST_POINTS) or 1
    first = (len(events) - 1) % stride
    return iter(events[first::stride])
