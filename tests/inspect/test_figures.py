"""Pictures of attention: they are there, of a size to look at, whatever was said or seen."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from echo.inspect.figures import band_of, draw_summary, escape_mathtext, write_inspection
from echo.inspect.inspect import inspect_recording
from tests.data.recordings import tone, write
from tests.inspect.test_inspect import ADAPTIVE, HYBRID, PER_HEAD, tiny
from tests.test_cli import run as cli

EVIL = "$x^ costs $5 or \\$ \\frac{ _ % # & \t\n and \x00 or ein Fuß 二 " * 20


def images(files):
    """Their sizes, by name, once they have been read to the end."""
    found = {}
    for path in files:
        with Image.open(path) as image:
            image.load()
            assert image.format == "PNG"
            assert image.convert("L").getextrema() == (0, 255)
            found[path.name] = image.size
        assert 5_000 < path.stat().st_size < 1_000_000
    return found


def test_every_layer_has_its_picture(shared, tmp_path, monkeypatch, capsys):
    """Through the command line, from a model's folder and a real recording."""
    loaded = tiny(["plain", PER_HEAD], [HYBRID, "plain"])
    loaded.model.save_pretrained(tmp_path / "model")
    loaded.tokenizer.save_pretrained(tmp_path / "model")
    audio = shared / "data" / "fsdd" / "recordings" / "7_jackson_0.wav"
    out = tmp_path / "deep" / "out"
    code, printed, _ = cli(monkeypatch, capsys, "inspect", tmp_path / "model", audio, "--out", out)
    assert code == 0
    assert f"4 layers, summary.png and inspection.json are in {out}/" in printed

    sizes = images(out.glob("*.png"))
    layers = [f"{stack}-{i}" for stack in ("encoder", "decoder") for i in range(2)]
    assert sorted(sizes) == sorted([*(f"{layer}.png" for layer in layers), "summary.png"])
    assert {width for width, _ in sizes.values()} == {1200}
    assert all(400 < height < 1500 for _, height in sizes.values())
    # Two plain heads share a row; a focused head has a row to itself.
    assert sizes["encoder-0.png"] < sizes["encoder-1.png"]

    found = json.loads((out / "inspection.json").read_text())
    assert found["audio"] == str(audio)
    assert [layer["layer"] for layer in found["layers"]] == layers
    assert [layer["form"] for layer in found["layers"]] == ["plain", "adaptive", "hybrid", "plain"]
    focused = found["layers"][1]
    for span, frames, seconds in zip(
        focused["span"], focused["span_frames"], focused["span_seconds"], strict=True
    ):
        assert frames == pytest.approx(span * 7)
        assert seconds == pytest.approx(frames * 0.02)
    frames = -(-round(100 * found["seconds"]) // 2)
    for layer in layers:
        for values in found["entropy_over_time"][layer].values():
            positions = frames if layer.startswith("encoder") else len(found["tokens"])
            assert len(values) == positions


@pytest.fixture
def inspection(tmp_path):
    return inspect_recording(tiny(ADAPTIVE, layers=1), write(tmp_path / "tone.wav"))


@pytest.mark.filterwarnings("ignore:Glyph")  # that the font lacks
def test_text_that_is_no_mathematics_is_drawn(inspection, tmp_path):
    evil = replace(inspection, transcript=EVIL, tokens=EVIL.split(" ")[: len(inspection.tokens)])
    images(write_inspection(evil, tmp_path / "out")[:-1])
    found = json.loads((tmp_path / "out" / "inspection.json").read_text(encoding="utf-8"))
    assert found["transcript"] == EVIL
    layers = [layer.numbers for layer in inspection.layers()]
    title = draw_summary(evil, layers).get_suptitle()
    assert len(title.splitlines()) == 4
    assert title.startswith(escape_mathtext("$x^ costs $5"))


def test_a_silent_recording_of_one_frame_can_be_drawn(tmp_path):
    path = write(tmp_path / "short.wav", 0 * tone(0.01))
    inspection = inspect_recording(tiny(ADAPTIVE, PER_HEAD, layers=1), path)
    assert inspection.log_mel.shape[1] == 1
    images(write_inspection(inspection, tmp_path / "out")[:-1])


def test_a_branch_that_sees_nothing_can_be_drawn(tmp_path):
    """A hard window shorter than a frame: its entropy is not a number, which JSON has not."""
    loaded = tiny(HYBRID, layers=1)
    block = loaded.model.model.encoder.layers[0].self_attn
    torch.nn.init.constant_(block.span_predictor.linear.bias, -99)
    inspection = inspect_recording(loaded, write(tmp_path / "tone.wav"))
    *pictures, numbers = write_inspection(inspection, tmp_path / "out")
    images(pictures)
    found = json.loads(numbers.read_text())
    assert found["layers"][0]["entropy_local"] == [None] * 2
    assert set(found["entropy_over_time"]["encoder-0"]["local"]) == {None}


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
