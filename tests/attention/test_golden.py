"""The hard forms reproduce the reference numbers: output, both branches, span, and rounds."""

import json

import pytest
import torch
from safetensors.torch import load_file

from echo.attention.focus import FocusAttention
from echo.attention.forms import FORMS
from tests.attention.refiners import replace_refiner

FIELDS = ("max_span", "window", "max_dist", "sharpen_longer", "temp_scale")
TOLERANCES = {"hybrid": 1e-4, "scaled": 1e-4, "focus": 1e-3}


class GivenRefinement:
    """A refiner that always keeps the same share of the span."""

    def __init__(self, keep):
        self.keep = keep

    def choose(self, state, explore):
        return torch.full(state.shape[:2], self.keep, dtype=torch.double), None

    def learn(self, choice, reward, next_state, real):
        raise AssertionError("nothing is learned in evaluation")


def load_case(shared, case, dtype):
    tensors = load_file(shared / "golden" / f"{case['name']}.safetensors")
    given = {**case, "temp_scale": case.get("temp_scale", case.get("temperature_factor"))}
    form = FORMS[case["kind"]]
    settings = form.settings_class(**{k: given[k] for k in FIELDS if k in given})
    block = form(settings, case["dims"], case["heads"]).to(dtype).eval()
    weights = {name[2:]: t.to(dtype) for name, t in tensors.items() if name.startswith("w.")}
    block.load_state_dict(weights)
    if isinstance(block, FocusAttention):
        replace_refiner(block, GivenRefinement(case["refinement"]))
    return block, tensors


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("kind", ["hybrid", "scaled", "focus"])
def test_every_case_is_reproduced(shared, kind, dtype):
    index = json.loads((shared / "golden" / "index.json").read_text())
    cases = [case for case in index if case["kind"] == kind]
    assert cases
    tolerance = 1e-9 if dtype == torch.float64 else TOLERANCES[kind]
    for case in cases:
        block, tensors = load_case(shared, case, dtype)
        x = tensors["x"].to(dtype)
        with torch.no_grad():
            branches = block.branches(x)
            y, _ = block(x)
        for found, name in (
            (y, "y"),
            (branches.local_out, "local_out"),
            (branches.global_out, "global_out"),
        ):
            error = (found.double() - tensors[name]).abs().max()
            assert error < tolerance, f"{case['name']}: {name} is off by {error:.1e}"
        assert abs(branches.window.span.item() - case["span_scale"]) < tolerance


def test_each_window_stops_in_its_own_round(shared, monkeypatch):
    index = json.loads((shared / "golden" / "index.json").read_text())
    settle, rounds = FocusAttention.settle, []

    def remember(self, *args):
        result = settle(self, *args)
        rounds.append(result[2])
        return result

    monkeypatch.setattr(FocusAttention, "settle", remember)
    for case in (case for case in index if case["kind"] == "focus"):
        block, tensors = load_case(shared, case, torch.float64)
        with torch.no_grad():
            block(tensors["x"])
        width = max(1, int(case["window"] * case["span_scale"]))
        assert rounds.pop()[0, ::width].tolist() == case["iterations"], case["name"]
