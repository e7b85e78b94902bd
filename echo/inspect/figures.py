"""Draws the attention of one layer on a recording: a map for each head and branch."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from echo.inspect.inspect import Branch, Inspection, Layer, LayerNumbers
from echo.model.geometry import ENCODER_FRAME_SECONDS
from echo.support.pictures import coloured, resized, stretched
from echo.support.text import one_line

# Pixels: of a picture, a line of text, what stands beside a map, and heights.
WIDTH, LINE, LABELS = 1200, 18, 85
LOG_MEL_HEIGHT, MAP_HEIGHT, MAX_MAP_HEIGHT = 100, 180, 260
# The first of these that the system has: the font inside Pillow has English letters alone.
FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "arial.ttf")

LABEL_LENGTH = 10  # characters of a token
DECADES = 4  # of weights that are told apart; smaller ones than 1e-4 look like 0
SCALE = f"The lightest weight is 1, the darkest {10.0**-DECADES:g} or less."

Labels = Mapping[float, str]  # by their places, from 0 (left or top) to 1


def draw_layer(inspection: Inspection, layer: Layer) -> Image.Image:
    """Draws each head of a layer: the maps of its branches and, in the decoder, its
    cross-attention. The log-mel is above every column that has the recording's time axis."""
    tokens, frames = (layer.overall if layer.cross is None else layer.cross).shape[1:]
    time = time_labels(frames * ENCODER_FRAME_SECONDS)
    columns = 2 if layer.cross is None or layer.local is None else 3
    panel = partial(draw_panel, width=WIDTH // columns)
    log_mel = inspection.log_mel.flip(0)
    above = panel("log-mel", log_mel, LOG_MEL_HEIGHT, below=time, levels=stretched)
    if layer.cross is None:
        panels = [above, above, *head_panels(layer, panel, time, time)]
        axes = "Across: seconds. Down: the queries (s) or, in local maps, how far away keys are."
    else:
        height = min(max(MAP_HEIGHT, LINE * tokens), MAX_MAP_HEIGHT)
        names = token_labels(inspection.tokens, height // LINE)
        panels = [np.full_like(above, 255)] * (columns - 1) + [above]
        panels += head_panels(layer, partial(panel, height=height), names, time)
        axes = "Down: the tokens that are read. Across: the same tokens, or seconds."
    panels += [np.full_like(panels[-1], 255)] * (-len(panels) % columns)
    rows = [np.hstack(panels[i : i + columns]) for i in range(0, len(panels), columns)]
    title, pen = white(rows[0].shape[1], LINE * 5)
    pen.text((LABELS, LINE / 2), f"{heading(layer.numbers)}\n{axes} {SCALE}", "black")
    return Image.fromarray(np.vstack([np.asarray(title), *rows]))


def head_panels(
    layer: Layer, panel: Callable[..., np.ndarray], queries: Labels, time: Labels
) -> Iterator[np.ndarray]:
    """Yields each head's global map, in a focused layer its local one, and in the decoder its
    cross-attention. The encoder's local weights are drawn over the distance from query to key: in a
    (T, T) map they would be a diagonal too thin to see."""
    numbers, local, beside = layer.numbers, layer.local, queries
    below = time if layer.cross is None else None
    spans: list[float] = []
    if layer.cross is None and local is not None:
        assert numbers.span_seconds is not None
        local = band_of(local)
        reach = local.shape[1] / 2 * ENCODER_FRAME_SECONDS
        beside = {0.0: f"{reach:+.2f}", 0.5: "0", 1.0: f"{-reach:+.2f}"}
        spans = (numbers.span_seconds / reach).expand(len(local)).tolist()
    branches: list[tuple[Branch | None, torch.Tensor]] = [("global", layer.overall)]
    branches += [("local", local)] if local is not None else []
    branches += [(None, layer.cross)] if layer.cross is not None else []
    for head in range(max(len(maps) for _, maps in branches)):
        for branch, maps in branches:
            if head >= len(maps):  # another branch has more heads
                yield np.full_like(panel("", maps[0]), 255)
                continue
            title = head_title(numbers, head, branch) if branch else f"head {head}, cross-attention"
            sides = beside if branch == "local" else queries
            marks = spans[head : head + 1] if branch == "local" else ()
            feet = below if branch else time
            yield panel(title, maps[head], beside=sides, below=feet, marks=marks)


def log_levels(weights: np.ndarray) -> np.ndarray:
    return 1 + np.log10(weights.clip(10.0**-DECADES, 1)) / DECADES


def draw_panel(
    title: str,
    values: torch.Tensor,
    height: int = MAP_HEIGHT,
    beside: Labels | None = None,
    below: Labels | None = None,
    levels: Callable[[np.ndarray], np.ndarray] = log_levels,
    marks: Sequence[float] = (),
    width: int = WIDTH,
) -> np.ndarray:
    """Draws numbers (rows, columns), the first row at the top, with a title and labels, as
    (pixels, `width`, 3) bytes. Their rows are `height` pixels high, and `levels` makes them
    brightness. Horizontal lines are so far above and below the middle as `marks` say, from 0 to 1.
    """
    image, pen = white(width, height + 3 * LINE)
    across, top, bottom = width - LABELS - LINE, LINE, LINE + height
    # Brightness comes after the size: means of logarithms would lose thin lines.
    image.paste(coloured(levels(resized(values.float().numpy(), across, height))), (LABELS, top))
    pen.text((LABELS, top - 3), title, "black", anchor="ls")
    for place, label in (beside or {}).items():
        pen.text((LABELS - 5, top + place * height), label, "black", anchor="rm")
    for place, label in (below or {}).items():
        pen.text((LABELS + place * across, bottom + 3), label, "black", anchor="ma")
    for mark in (sign * mark for mark in marks if mark < 1 for sign in (-1, 1)):
        y = round(top + (1 - mark) / 2 * height)
        pen.line((LABELS, y, LABELS + across, y), "white")
    return np.asarray(image)


def white(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Returns an empty picture, and what draws on it."""
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    pen.font = label_font()
    return image, pen


@cache
def label_font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    for name in FONTS:
        with suppress(OSError):
            return ImageFont.truetype(name, 12)
    return ImageFont.load_default(12)


def time_labels(end: float) -> Labels:
    return {i / 4: f"{i / 4 * end:.2f}" for i in range(5)}


def token_labels(tokens: Sequence[str], room: int) -> Labels:
    """Returns labels of as many tokens as there is room for."""
    labels = {}
    for i in range(0, len(tokens), math.ceil(len(tokens) / room)):
        text = one_line(tokens[i]) or "␣"
        short = text if len(text) <= LABEL_LENGTH else f"{text[: LABEL_LENGTH - 1]}…"
        labels[(i + 0.5) / len(tokens)] = short
    return labels


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
    if layer.span is not None:
        lines.append(f"span {span_text(layer)}, temperature {extremes(layer.temperature, 2)}")
    entropies = (f"{branch} {entropy.nanmean():.2f}" for branch, entropy in layer.entropy.items())
    lines.append(f"entropy {', '.join(entropies)} nats")
    if layer.beyond >= 0.005:
        lines[-1] += f"; {100 * layer.beyond:.0f} % of the weight on appended silence"
    return "\n".join(lines)


def head_title(layer: LayerNumbers, head: int, branch: Branch) -> str:
    """Returns a head's entropy, and its own span and temperature if it has them."""
    title = f"head {head}, {branch}: {layer.entropy[branch][head].nanmean():.2f} nats"
    spans, temperatures = layer.span_positions, layer.temperature
    if branch == "local" and spans is not None and len(spans) > 1:
        title += f", span {spans[head]:.1f} {layer.unit}"
    if branch == "local" and temperatures is not None and len(temperatures) > 1:
        title += f", temp. {temperatures[head]:.2f}"
    return title


def span_text(layer: LayerNumbers) -> str:
    """Describes the span as a scale, in positions and in seconds; empty in a plain layer."""
    amounts = extremes(layer.span, 2), extremes(layer.span_positions, 1, f" {layer.unit}")
    return " = ".join(filter(None, (*amounts, extremes(layer.span_seconds, 2, " s"))))


def extremes(numbers: torch.Tensor | None, digits: int, unit: str = "") -> str:
    if numbers is None:
        return ""
    low, high = (f"{x:.{digits}f}" for x in (numbers.min(), numbers.max()))
    return f"{low if low == high else f'{low} to {high}'}{unit}"
