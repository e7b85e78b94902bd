"""Attention maps of chosen utterances, for the models whose attention is focused."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from echo.checkpoints.load import load_model, model_folder
from echo.checkpoints.pretrained import PretrainedFolder
from echo.data.utterance import Utterance
from echo.inspect.inspect import Layer, LayerNumbers, inspect_utterance
from echo.model.config import EchoConfig
from echo.support.errors import EchoError
from echo.support.pictures import heat_map

logger = logging.getLogger(__name__)

SIDE = 150  # of a map, in pixels, at most


@dataclass(frozen=True)
class LayerMaps:
    """One layer's maps, means over heads: pictures in base64, by what looks where."""

    file: str  # name without suffix of the picture of all heads that `inspect` draws
    name: str
    numbers: str  # span and temperature, in words
    pictures: Mapping[str, str]


@dataclass(frozen=True)
class UtteranceMaps:
    model: str
    id: str
    transcript: str
    layers: Sequence[LayerMaps]


def attention_maps(
    checkpoints: Mapping[str, tuple[str, str]], utterances: Sequence[Utterance]
) -> list[UtteranceMaps]:
    """The maps of every model with focused layers that is still there, by its folder and which
    checkpoint of a run is meant."""
    found = []
    for model, (source, which) in checkpoints.items() if utterances else ():
        try:
            if not Path(source).exists() or not is_focused(model_folder(source, which)):
                continue
            loaded = load_model(source, which)
            for utterance in utterances:
                inspection = inspect_utterance(loaded, utterance)
                layers = [layer_maps(layer) for layer in inspection.layers()]
                found.append(UtteranceMaps(model, utterance.id, inspection.transcript, layers))
        except EchoError as error:
            logger.warning("the page has no attention maps of %s: %s", model, error)
    return found


def is_focused(folder: Path) -> bool:
    """Whether any layer of a model is not Whisper's own, by its config."""
    config = PretrainedFolder(folder).config
    return isinstance(config, EchoConfig) and not all(
        settings.is_plain for settings in chain(*config.resolved_attention().values())
    )


def layer_maps(layer: Layer) -> LayerMaps:
    own = layer.numbers
    maps = {"global": layer.overall, "local": layer.local, "to the recording": layer.cross}
    # Square roots, so that small weights are seen too.
    pictures = {
        name: heat_map(weights.mean(0).sqrt().numpy(), SIDE, SIDE)
        for name, weights in maps.items()
        if weights is not None
    }
    title = f"{own.stack} {own.index}, {own.settings.form}"
    return LayerMaps(own.name, title, ", ".join(described(own)), pictures)


def described(numbers: LayerNumbers) -> Iterator[str]:
    if numbers.span_seconds is not None:
        yield f"span {1000 * numbers.span_seconds.mean():.0f} ms"
    elif numbers.span_positions is not None:
        yield f"span {numbers.span_positions.mean():.1f} tokens"
    if numbers.temperature is not None:
        yield f"temperature {numbers.temperature.mean():.2f}"
