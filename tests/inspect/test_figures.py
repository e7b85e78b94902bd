"""Pictures of attention show the weights where they are, whatever was said or seen."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from echo.inspect.figures import (
    LABELS,
    LINE,
    LOG_MEL_HEIGHT,
    MAP_HEIGHT,
    band_of,
    draw_layer,
    token_labels,
)
from echo.inspect.inspect import inspect_recording
from tests.data.recordings import write
from tests.inspect.test_inspect import ADAPTIVE, tiny


@pytest.fixture(scope="module")
def inspection(tmp_path_factory):
    path = write(tmp_path_factory.mktemp("audio") / "tone.wav")
    return inspect_recording(tiny(ADAPTIVE, layers=1), path)


def test_a_picture_is_light_where_the_weight_is(inspection):
    """One weight of the first head is 1, all others of it 0."""
    layer = next(inspection.layers())
    T = layer.overall.shape[1]
    query, key = T // 3, T // 2
    overall = torch.zeros_like(layer.overall)
    overall[0, query, key] = 1
    image = np.asarray(draw_layer(inspection, replace(layer, overall=overall)).convert("L"))
    top = 5 * LINE + LOG_MEL_HEIGHT + 3 * LINE + LINE
    width = image.shape[1] // 2 - LABELS - LINE
    drawn = image[top : top + MAP_HEIGHT, LABELS : LABELS + width]
    y, x = (place.mean() for place in np.where(drawn == drawn.max()))
    assert y / MAP_HEIGHT == pytest.approx((query + 0.5) / T, abs=0.01)
    assert x / width == pytest.approx((key + 0.5) / T, abs=0.01)
    assert (drawn == drawn.min()).mean() > 0.9


def test_tokens_are_labelled_as_far_as_there_is_room():
    tokens = [" ", "\n", "\x00", "a long long token", *"abcdef"]
    assert list(token_labels(tokens, 10).values()) == ["␣", "␣", r"\x00", "a long lo…", *"abcdef"]
    few = token_labels(tokens, 4)
    assert [*few] == [0.05, 0.35, 0.65, 0.95]
    assert [*few.values()] == ["␣", "a long lo…", "c", "f"]


@pytest.mark.parametrize(("before", "after"), [(0, 0), (3, 3), (4, 1), (0, 2)])
def test_a_band_holds_every_weight_at_its_distance(before, after):
    T = 9
    distance = torch.arange(T) - torch.arange(T)[:, None]  # from each query to each key
    local = torch.rand(2, T, T) * ((-before <= distance) & (distance <= after))
    band = band_of(local)
    n = max(before, after)
    assert band.shape == (2, 2 * n + 1, T)
    for query in range(T):
        for key in range(max(0, query - n), min(T, query + n + 1)):
            assert (band[:, n - (key - query), query] == local[:, query, key]).all()
    torch.testing.assert_close(band.sum(1), local.sum(-1))


@pytest.mark.parametrize("local_heads", [1, 8], ids=["fewer", "more"])
def test_every_head_of_both_branches_is_drawn(tmp_path, local_heads):
    """Where the local branch has another number of them; what is missing is left white."""
    own = {"local_input": "projected", "local_heads": local_heads}
    path = write(tmp_path / "tone.wav")
    inspection = inspect_recording(tiny({**ADAPTIVE, **own}, layers=1), path)
    layer = next(inspection.layers())
    heads = len(layer.overall), len(layer.local)
    assert heads == (2, local_heads)
    image = np.asarray(draw_layer(inspection, layer).convert("L"))
    top = 5 * LINE + LOG_MEL_HEIGHT + 3 * LINE
    rows = (len(image) - top) // (MAP_HEIGHT + 3 * LINE)
    assert rows == max(heads)
    halves = np.split(image[top:].reshape(rows, -1, image.shape[1]), 2, axis=-1)
    seen = [sum(half[row].min() < 255 for row in range(rows)) for half in halves]
    assert seen == [2, local_heads]
