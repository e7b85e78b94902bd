"""Draws the attention of a model on a recording, as PNG files."""

import io
import json
import math
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import MaxNLocator
from PIL import Image

from echo.inspect.inspect import Branch, Inspection, Layer, LayerNumbers
from echo.model.geometry import ENCODER_FRAME_SECONDS, FRAMES_PER_SECOND
from echo.support.files import replace_text
from echo.support.text import escape_mathtext

BRANCHES: tuple[Branch, ...] = ("global", "local")
DPI = 100
# Inches.
WIDTH = 12.0
LOG_MEL_HEIGHT = 1.3
MAP_HEIGHT = 1.8
MAX_MAP_HEIGHT = 2.6
LABEL_HEIGHT = 0.13  # of a token label beside a map
CURVES_HEIGHT = 1.8
PANELS_HEIGHT = 3.0
# Characters.
LABEL_LENGTH = 10  # of a token label
LINE_LENGTH = 120  # of a title

LEAST_WEIGHT = 1e-4  # smaller weights look like 0 in a map
WEIGHTS = LogNorm(LEAST_WEIGHT, 1)
MAPS = "inferno"


def write_inspection(inspection: Inspection, folder: Path) -> list[Path]:
    """Draws the attention maps and writes the numbers.

    Returns:
        The files that were written: `encoder-N.png` or `decoder-N.png` for each layer, then
        `summary.png` and `inspection.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files, layers = [], []
    for layer in inspection.layers():
        draw = draw_encoder_layer if layer.numbers.stack == "encoder" else draw_decoder_layer
        files.append(folder / f"{layer.numbers.name}.png")
        save_maps(draw(inspection, layer), files[-1])
        layers.append(layer.numbers)
    files += [folder / "summary.png", folder / "inspection.json"]
    draw_summary(inspection, layers).savefig(files[-2], dpi=DPI)
    content = json.dumps(inspection.to_dict(layers), indent=2, ensure_ascii=False)
    replace_text(files[-1], content + "\n")
    return files


def draw_encoder_layer(inspection: Inspection, layer: Layer) -> Figure:
    """Draws one row per head, with its global map on the left and its local map on the right. A
    plain layer has two heads per row. The log-mel is above each column, on the same time axis."""
    heads, frames, _ = layer.overall.shape
    end = frames * ENCODER_FRAME_SECONDS
    plain = layer.local is None
    figure, axes = grid(-(-heads // 2) if plain else heads, MAP_HEIGHT, [1, 1])
    figure.suptitle(heading(layer.numbers))
    for ax in axes[0]:
        draw_log_mel(ax, inspection)
    maps = axes[1:]
    for head, weights in enumerate(layer.overall):
        ax = maps.flat[head] if plain else maps[head, 0]
        draw_map(ax, weights, (0, end, end, 0), head_title(layer.numbers, head, "global"))
        ax.set_ylabel("query (s)")
    for ax in maps[-1]:
        ax.set_xlabel("key (s)")
    if layer.local is not None:
        draw_bands(maps[:, 1], layer.numbers, band_of(layer.local))
    elif heads % 2:
        maps[-1, 1].axis("off")
    add_scale(figure, axes)
    return figure


def draw_bands(axes: Sequence[Axes], layer: LayerNumbers, bands: torch.Tensor) -> None:
    """Draws an encoder layer's local weights over the distance from query to key. In a (T, T) map
    they would be a diagonal too thin to see."""
    assert layer.span_seconds is not None
    _, width, frames = bands.shape
    end, reach = frames * ENCODER_FRAME_SECONDS, width / 2 * ENCODER_FRAME_SECONDS
    spans = layer.span_seconds.expand(len(bands))
    for head, (ax, weights, span) in enumerate(zip(axes, bands, spans, strict=True)):
        draw_map(ax, weights, (0, end, -reach, reach), head_title(layer, head, "local"))
        ax.set_ylabel("key − query (s)")
        ax.set_facecolor("black")  # for distances within the span but beyond the visible keys
        ax.hlines([-span, span], 0, end, "white", "--", linewidth=0.8)
    axes[-1].set_xlabel("query (s); dashed: the span")


def draw_decoder_layer(inspection: Inspection, layer: Layer) -> Figure:
    """Draws one row per head: self-attention between tokens, global and local, and
    cross-attention below the log-mel."""
    assert layer.cross is not None
    heads, count, frames = layer.cross.shape
    end = frames * ENCODER_FRAME_SECONDS
    branches: dict[Branch, torch.Tensor] = {"global": layer.overall}
    if layer.local is not None:
        branches["local"] = layer.local
    height = min(max(MAP_HEIGHT, LABEL_HEIGHT * count), MAX_MAP_HEIGHT)
    widths = [1] * len(branches) + [2]
    figure, axes = grid(heads, height, widths)
    figure.suptitle(heading(layer.numbers))
    for ax in axes[0, :-1]:
        ax.axis("off")
    draw_log_mel(axes[0, -1], inspection)
    rows = (count - 0.5, -0.5)  # lower edge, upper edge
    for head, (*own, cross) in enumerate(axes[1:]):
        for ax, (branch, weights) in zip(own, branches.items(), strict=True):
            title = head_title(layer.numbers, head, branch)
            draw_map(ax, weights[head], (-0.5, count - 0.5, *rows), title)
            ax.set_yticks([])
        own[0].set_ylabel("token read")
        label_tokens(own[0].yaxis, inspection.tokens, height)
        draw_map(cross, layer.cross[head], (0, end, *rows), f"head {head}, cross-attention")
        cross.set_yticks([])
    for ax in axes[-1, :-1]:  # the axes above share these ticks
        label_tokens(ax.xaxis, inspection.tokens, WIDTH / sum(widths))
    axes[-1, -1].set_xlabel("time (s)")
    add_scale(figure, axes)
    return figure


def draw_summary(inspection: Inspection, layers: Sequence[LayerNumbers]) -> Figure:
    """Draws the transcript above the log-mel, the entropy of the encoder layers over time, and
    the numbers of every layer."""
    encoder = [layer for layer in layers if layer.stack == "encoder"]
    branches = [b for b in BRANCHES if any(b in layer.entropy for layer in encoder)]
    upper_height = LOG_MEL_HEIGHT + CURVES_HEIGHT * len(branches)
    figure = Figure((WIDTH, upper_height + PANELS_HEIGHT + 1), layout="constrained")
    title = inspection.transcript or "(nothing was heard)"
    lines = textwrap.wrap(title, LINE_LENGTH, max_lines=4, placeholder=" …")
    figure.suptitle("\n".join(map(escape_mathtext, lines)))
    heights = [upper_height, PANELS_HEIGHT]
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)[:, 0]

    axes = upper.subplots(1 + len(branches), squeeze=False, sharex=True)[:, 0]
    draw_log_mel(axes[0], inspection)
    colours = ListedColormap(colormaps["viridis"](np.linspace(0, 0.9, len(encoder))))
    for ax, branch in zip(axes[1:], branches, strict=True):
        for layer in encoder:
            if branch in layer.entropy:
                entropy = layer.entropy[branch].nanmean(0)
                time = (torch.arange(len(entropy)) + 0.5) * ENCODER_FRAME_SECONDS
                ax.plot(time, entropy, color=colours(layer.index), linewidth=1)
        ax.set_ylabel(f"{branch} entropy\n(nats)")
        start_at_zero(ax)
    axes[-1].set_xlabel("time (s)")
    layer_of = ScalarMappable(Normalize(-0.5, len(encoder) - 0.5), colours)
    whole = MaxNLocator(integer=True)
    upper.colorbar(layer_of, ax=list(axes), label="encoder layer", ticks=whole, aspect=40)
    draw_panels(lower, layers)
    return figure


def draw_panels(figure: FigureBase, layers: Sequence[LayerNumbers]) -> None:
    """Plots span, temperature and entropy over the layers. If each head has its own span or
    temperature, each head gets a dot, and the line goes through their means."""
    titles = ("span in encoder frames", "span in decoder tokens", "temperature", "entropy in nats")
    panels: dict[str, dict[str, dict[int, torch.Tensor]]]  # by panel, line and layer
    panels = {title: defaultdict(dict) for title in titles}
    for layer in layers:
        if layer.span_positions is not None and layer.temperature is not None:
            title = f"span in {layer.stack} {layer.unit}"
            panels[title][layer.stack][layer.index] = layer.span_positions
            panels["temperature"][layer.stack][layer.index] = layer.temperature
        for branch, entropy in layer.entropy.items():
            line = f"{layer.stack}, {branch}"
            panels["entropy in nats"][line][layer.index] = entropy.nanmean()[None]
    panels = {title: lines for title, lines in panels.items() if lines}
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, lines) in zip(axes, panels.items(), strict=True):
        for line, numbers in lines.items():
            (drawn,) = ax.plot(
                list(numbers), [x.mean() for x in numbers.values()], "o-", label=line
            )
            for index, x in numbers.items():
                ax.scatter([index] * len(x), x, s=6, color=drawn.get_color())
        ax.set(title=title, xlabel="layer")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        start_at_zero(ax)
        if len(lines) > 1:
            ax.legend(fontsize="small")
        if title == "span in encoder frames":
            seconds = (lambda x: x * ENCODER_FRAME_SECONDS, lambda x: x / ENCODER_FRAME_SECONDS)
            ax.secondary_yaxis("right", functions=seconds).set_ylabel("seconds")


def start_at_zero(ax: Axes) -> None:
    top = ax.dataLim.y1
    ax.set_ylim(0, 1.1 * top if 0 < top < math.inf else 1)  # the axes may be empty
    ax.grid(alpha=0.3)


def grid(rows: int, height: float, widths: Sequence[float]) -> tuple[Figure, Any]:
    """Makes a figure with a row for the log-mel and `rows` more below it, each `height` inches
    high. Returns it with an array of axes (rows, columns)."""
    figure = Figure((WIDTH, LOG_MEL_HEIGHT + rows * height + 1.5), layout="constrained")
    axes = figure.subplots(
        1 + rows,
        len(widths),
        squeeze=False,
        sharex="col",
        width_ratios=widths,
        height_ratios=[LOG_MEL_HEIGHT] + [height] * rows,
    )
    return figure, axes


def draw_log_mel(ax: Axes, inspection: Inspection) -> None:
    n_mels, frames = inspection.log_mel.shape
    extent = (0, frames / FRAMES_PER_SECOND, -0.5, n_mels - 0.5)
    ax.imshow(inspection.log_mel, "gray_r", aspect="auto", origin="lower", extent=extent)
    ax.set_ylabel("mel band")


def draw_map(
    ax: Axes, weights: torch.Tensor, extent: tuple[float, float, float, float], title: str
) -> None:
    """Draws weights (rows, columns), with the first row at the top."""
    ax.imshow(
        weights.clamp(min=LEAST_WEIGHT),  # the log scale cannot show 0
        MAPS,
        WEIGHTS,
        aspect="auto",
        extent=extent,
        interpolation_stage="data",  # averaging colours would lose thin lines
    )
    ax.set_title(title, fontsize="medium")


def add_scale(figure: Figure, axes: Any) -> None:
    """Adds a colour bar for the weights below all axes."""
    inch = 1 / figure.get_figheight()
    figure.colorbar(
        ScalarMappable(WEIGHTS, MAPS),
        ax=axes.ravel().tolist(),
        location="bottom",
        label="attention weight",
        fraction=0.2 * inch,
        pad=0.1 * inch,
        shrink=0.4,
        aspect=40,
    )


def band_of(local: torch.Tensor) -> torch.Tensor:
    """(H, T, T) -> (H, 2 n + 1, T): the weights of the keys around each query, from n positions
    after it to n before it. n is the largest distance that any query looks."""
    query, key = (local > 0).any(0).nonzero(as_tuple=True)
    n = int((key - query).abs().max()) if len(query) else 0
    keys = torch.arange(local.shape[1])[:, None] + torch.arange(2 * n, -1, -1)
    return F.pad(local, (n, n)).gather(-1, keys.expand(len(local), -1, -1)).mT


def heading(layer: LayerNumbers) -> str:
    """Returns a layer's name and its numbers, in two or three lines."""
    lines = [f"{layer.stack.capitalize()} layer {layer.index}: {layer.settings.form}"]
    if layer.span is not None and layer.temperature is not None:
        temperature = extremes(layer.temperature, 2)
        lines.append(f"{span_text(layer, slice(None))}, temperature {temperature}")
    entropies = (f"{branch} {entropy.nanmean():.2f}" for branch, entropy in layer.entropy.items())
    lines.append(f"entropy {', '.join(entropies)} nats")
    if layer.beyond >= 0.005:
        lines[-1] += f"; {100 * layer.beyond:.0f} % of the weight on appended silence"
    return "\n".join(lines)


def head_title(layer: LayerNumbers, head: int, branch: Branch) -> str:
    """Returns a head's entropy and, on a second line, its own span and temperature if it has
    them."""
    facts = []
    if branch == "local" and layer.span is not None and layer.temperature is not None:
        if len(layer.span) > 1:
            facts.append(span_text(layer, slice(head, head + 1)))
        if len(layer.temperature) > 1:
            facts.append(f"temp. {layer.temperature[head]:.2f}")
    title = f"head {head}, {branch}: {layer.entropy[branch][head].nanmean():.2f} nats"
    return "\n".join([title, ", ".join(facts)]) if facts else title


def span_text(layer: LayerNumbers, heads: slice) -> str:
    """Describes the span as a scale, in positions and in seconds."""
    amounts = (
        (layer.span, 2, ""),
        (layer.span_positions, 1, f" {layer.unit}"),
        (layer.span_seconds, 2, " s"),
    )
    shown = (extremes(x[heads], digits) + unit for x, digits, unit in amounts if x is not None)
    return f"span {' = '.join(shown)}"


def extremes(numbers: torch.Tensor, digits: int) -> str:
    low, high = (f"{x:.{digits}f}" for x in (numbers.min(), numbers.max()))
    return low if low == high else f"{low} to {high}"


def label_tokens(axis: Axis, tokens: Sequence[str], inches: float) -> None:
    """Labels an axis with as many tokens as fit."""
    step = math.ceil(len(tokens) * LABEL_HEIGHT / inches)
    axis.set_ticks(range(0, len(tokens), step), map(token_label, tokens[::step]), fontsize=8)
    if isinstance(axis, XAxis):
        axis.set_tick_params(rotation=90)


def token_label(token: str) -> str:
    text = " ".join(token.split()) or "␣"
    return escape_mathtext(text if len(text) <= LABEL_LENGTH else f"{text[: LABEL_LENGTH - 1]}…")


def save_maps(figure: Figure, path: Path) -> None:
    """Saves a figure with 192 colours: it looks the same and takes a third of the bytes."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI)
    image = Image.open(drawn).convert("RGB")
    image.quantize(192, kmeans=1, dither=Image.Dither.NONE).save(path, optimize=True)
