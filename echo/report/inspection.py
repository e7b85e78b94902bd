"""Writes what a model attends to in one recording: pictures, numbers, and a page of both."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image

from echo.inspect.figures import draw_layer, extremes, span_text
from echo.inspect.inspect import BRANCHES, Branch, Inspection, LayerNumbers
from echo.report.maps import layer_maps
from echo.report.page import render
from echo.support.files import replace_text, whole_file
from echo.support.pictures import heat_map

PAGE = "report.html"
COLOURS = 192  # of a layer's picture: it looks the same and takes a third of the bytes
BAND = 12  # pixels of a layer's row
WIDEST = 1000  # pixels


def write_inspection(inspection: Inspection, folder: Path) -> Path:
    """Writes `encoder-N.png` and `decoder-N.png` for each layer, `inspection.json` and the page;
    returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    maps, layers = [], []
    for layer in inspection.layers():
        image = draw_layer(inspection, layer)
        image = image.quantize(COLOURS, kmeans=1, dither=Image.Dither.NONE)
        with whole_file(folder / f"{layer.numbers.name}.png") as temporary:
            image.save(temporary, "PNG", optimize=True)
        maps.append(layer_maps(layer))
        layers.append(layer.numbers)
    content = json.dumps(inspection.to_dict(layers), indent=2, ensure_ascii=False)
    replace_text(folder / "inspection.json", content + "\n")
    sections = {
        "inspection": inspection,
        "log_mel": heat_map(inspection.log_mel.flip(0).numpy(), WIDEST, 80),
        "entropies": dict(entropies(layers)),
        "rows": [*map(row, layers)],
        "maps": maps,
    }
    page = folder / PAGE
    replace_text(page, render("inspection.html", sections))
    return page


def entropies(layers: list[LayerNumbers]) -> Iterator[tuple[Branch, str]]:
    """Yields by branch the entropy of the encoder's layers over time, the first at the top."""
    for branch in BRANCHES:
        encoder = [x.entropy for x in layers if x.stack == "encoder" and branch in x.entropy]
        if encoder:
            over_time = torch.stack([entropy[branch].nanmean(0) for entropy in encoder])
            rows = over_time.nan_to_num().repeat_interleave(BAND, 0)
            yield branch, heat_map(rows.numpy(), WIDEST, len(rows))


def row(layer: LayerNumbers) -> list[str]:
    """Returns a layer's line of the table: name, form, span, temperature and entropies in nats."""
    entropy = [layer.entropy.get(branch) for branch in BRANCHES]
    return [
        f"{layer.stack} {layer.index}",
        layer.settings.form,
        span_text(layer),
        extremes(layer.temperature, 2),
        *("" if nats is None else f"{nats.nanmean():.2f}" for nats in entropy),
        f"{100 * layer.beyond:.0f} %",
    ]
