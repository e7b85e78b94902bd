"""The hard forms reproduce the reference numbers."""

import json

import pytest
import torch
from safetensors.torch import load_file

from echo.attention.blocks import HybridAttention
from echo.attention.settings import AttentionSettings


def hybrid_cases(shared):
    index = json.loads((shared / "golden" / "index.json").read_text())
    return [case for case in index if case["kind"] == "hybrid"]


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=["f64", "f32"]
)
def test_hybrid_reproduces_every_case(shared, dtype, tolerance):
    cases = hybrid_cases(shared)
    assert cases
    for case in cases:
        tensors = load_file(shared / "golden" / f"{case['name']}.safetensors")
        settings = AttentionSettings(
            form="hybrid",
            **{
                key: case[key]
                for key in ("max_span", "window", "max_dist", "sharpen_longer", "temp_scale")
            },
        )
        block = HybridAttention(settings, case["dims"], case["heads"]).to(dtype)
        weights = {name[2:]: t.to(dtype) for name, t in tensors.items() if name.startswith("w.")}
        block.load_state_dict(weights)
        x = tensors["x"].to(dtype)
        with torch.no_grad():
            local_out, global_out, span = block.branches(x)
            y, _ = block(x)
        for found, name in ((y, "y"), (local_out, "local_out"), (global_out, "global_out")):
            error = (found.double() - tensors[name]).abs().max()
            assert error < tolerance, f"{case['name']}: {name} is off by {error:.1e}"
        assert abs(span.item() - case["span_scale"]) < tolerance
