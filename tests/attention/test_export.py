"""Encoders outside of eager PyTorch take audio of any length."""

import pytest
import torch
from torch._dynamo.utils import counters

from echo.model.config import EchoConfig
from echo.model.model import EchoEncoder

FORMS = {
    "plain": "plain",
    "adaptive": "adaptive",
    "adaptive, richer": {"form": "adaptive", "rotary_base": 100, "relative_bias": True},
    "hybrid": "hybrid",
    "convolution": "convolution",
    "adaptive, by distance": {
        "form": "adaptive",
        "local_input": "projected",
        "first_offset": 4,
        "local_scores": "distance",
    },
}


def make_encoder(*layers):
    torch.manual_seed(0)
    config = EchoConfig(
        d_model=16,
        encoder_layers=len(layers),
        encoder_attention_heads=2,
        encoder_ffn_dim=16,
        max_source_positions=500,
        attention={"encoder": [*layers]},
    )
    return EchoEncoder(config).eval()


def draw(frames, rows=2):
    mask = torch.ones(rows, frames, dtype=torch.long)
    mask[1, frames // 2 :] = 0
    return torch.randn(rows, 80, frames), mask


@pytest.mark.slow
def test_two_graphs_serve_all_lengths():
    """Whole pairs for short audio, and blocks for long, of which the last may be full."""
    torch._dynamo.reset()
    counters.clear()
    encoder = make_encoder("adaptive")
    compiled = torch.compile(encoder, backend="eager", fullgraph=True, dynamic=True)
    with torch.no_grad():
        for frames in [40, 79, 128, 391, 576, 577, 640, 895, 896, 999]:
            features, mask = draw(frames)
            found = compiled(features, mask).last_hidden_state
            expected = encoder(features, mask).last_hidden_state
            real = mask[:, ::2, None]
            torch.testing.assert_close(found * real, expected * real, rtol=0, atol=1e-5)
    assert counters["stats"]["unique_graphs"] <= 2


class Whole(torch.nn.Module):
    """The encoder as a function of tensors."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, features, mask):
        return self.encoder(features, mask).last_hidden_state


def export(model):
    rows, frames = torch.export.Dim("rows"), torch.export.Dim("frames", min=3, max=1000)
    shapes = ({0: rows, 2: frames}, {0: rows, 1: frames})
    with torch.no_grad():
        return torch.export.export(model, draw(300), dynamic_shapes=shapes)


LENGTHS = [3, 4, 38, 64, 65, 127, 128, 129, 300, 301, 999, 1000]


@pytest.mark.parametrize("attention", FORMS.values(), ids=FORMS.keys())
def test_an_exported_encoder_takes_any_length(attention):
    model = Whole(make_encoder(attention))
    exported = export(model).module()
    check(model, lambda *inputs: exported(*inputs))


@pytest.mark.slow
def test_onnxruntime_gives_what_torch_gives(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = Whole(make_encoder(FORMS["adaptive, richer"], "hybrid"))
    torch.onnx.export(export(model), dynamo=True, verbose=False).save(tmp_path / "encoder.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "encoder.onnx"))
    names = [value.name for value in session.get_inputs()]

    def run(*inputs):
        feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(None, feed)[0])

    check(model, run)


def check(model, run):
    for frames in LENGTHS:
        inputs = draw(frames, rows=3)
        with torch.no_grad():
            expected, found = model(*inputs), run(*inputs)
        real = inputs[1][:, ::2, None] == 1
        torch.testing.assert_close(found * real, expected * real, rtol=0, atol=1e-4)
