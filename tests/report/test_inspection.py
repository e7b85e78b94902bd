"""What `inspect` writes is there, and of a size to look at, whatever was said or seen."""

import json
from dataclasses import replace
from html import escape

import pytest
import torch
from PIL import Image

from echo.inspect.inspect import inspect_recording
from echo.report.inspection import write_inspection
from tests.data.recordings import tone, write
from tests.inspect.test_inspect import ADAPTIVE, HYBRID, PER_HEAD, tiny
from tests.test_cli import run as cli

EVIL = "$x^ costs $5 or \\$ \\frac{ _ % # & <script>\t\n and \x00 or ein Fuß 二 " * 20


def images(folder):
    """Their sizes, by name, once they have been read to the end."""
    found = {}
    for path in folder.glob("*.png"):
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
    told = f"A picture of each layer and inspection.json are in {out}/; look at {out}/report.html"
    assert told in printed

    sizes = images(out)
    layers = [f"{stack}-{i}" for stack in ("encoder", "decoder") for i in range(2)]
    assert sorted(sizes) == sorted(f"{layer}.png" for layer in layers)
    assert {width for width, _ in sizes.values()} == {1200}
    assert all(400 < height < 1500 for _, height in sizes.values())
    # Two plain heads share a row; a focused head has a row to itself.
    assert sizes["encoder-0.png"][1] < sizes["encoder-1.png"][1]
    page = (out / "report.html").read_text(encoding="utf-8")
    for layer in layers:
        assert f'href="{layer}.png"' in page
    assert "http" not in page.replace("http-equiv", "")

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


def test_any_text_is_shown_as_text(tmp_path):
    inspection = inspect_recording(tiny(ADAPTIVE, layers=1), write(tmp_path / "tone.wav"))
    evil = replace(inspection, transcript=EVIL, tokens=EVIL.split(" ")[: len(inspection.tokens)])
    page = write_inspection(evil, tmp_path / "out")
    assert len(images(tmp_path / "out")) == 2
    found = json.loads((tmp_path / "out" / "inspection.json").read_text(encoding="utf-8"))
    assert found["transcript"] == EVIL
    shown = page.read_text(encoding="utf-8")
    assert "<script" not in shown
    assert escape("& <script>") in shown


def test_a_silent_recording_of_one_frame_can_be_drawn(tmp_path):
    path = write(tmp_path / "short.wav", 0 * tone(0.01))
    inspection = inspect_recording(tiny(ADAPTIVE, PER_HEAD, layers=1), path)
    assert inspection.log_mel.shape[1] == 1
    write_inspection(inspection, tmp_path / "out")
    assert len(images(tmp_path / "out")) == 2


def test_a_branch_that_sees_nothing_can_be_drawn(tmp_path):
    """A hard window shorter than a frame: its entropy is not a number, which JSON has not."""
    loaded = tiny(HYBRID, layers=1)
    block = loaded.model.model.encoder.layers[0].self_attn
    torch.nn.init.constant_(block.span_predictor.linear.bias, -99)
    inspection = inspect_recording(loaded, write(tmp_path / "tone.wav"))
    write_inspection(inspection, tmp_path / "out")
    assert len(images(tmp_path / "out")) == 2
    found = json.loads((tmp_path / "out" / "inspection.json").read_text())
    assert found["layers"][0]["entropy_local"] == [None] * 2
    assert set(found["entropy_over_time"]["encoder-0"]["local"]) == {None}
