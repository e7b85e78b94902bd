"""Linear layers in 8-bit integers: beside the same in floating point."""

import pytest
import torch
from torch import nn

from echo.checkpoints.load import load_model
from echo.model.config import EchoConfig
from echo.model.model import EchoForConditionalGeneration
from echo.support.errors import ConfigError
from echo.transcribe.int8 import Int8Linear, int8_copy, weight_steps
from echo.transcribe.transcribe import Transcriber, TranscribeSettings, transcribe_recordings


@pytest.mark.parametrize("bias", [True, False])
def test_a_product_is_that_of_rounded_numbers(bias):
    """Weights of as many steps for each output, inputs of 256 steps over their range."""
    torch.manual_seed(0)
    linear = nn.Linear(40, 30, bias)
    linear.weight.data[3] *= 50  # a scale for each output: this one does not spoil the others
    x = torch.randn(2, 5, 40)
    step = (x.max() - x.min()).double() / 255
    inputs = (x.double() / step).round() * step
    row = linear.weight.detach().double().abs().amax(1, keepdim=True) / weight_steps()
    weights = (linear.weight.detach() / row).round() * row
    expected = inputs @ weights.T + (linear.bias.detach() if bias else 0)
    found = Int8Linear(linear)(x)
    # Float and double may round an input at a half to either side.
    torch.testing.assert_close(
        found.double(), expected, rtol=0, atol=(step * weights.abs().max()).item()
    )
    assert (found - expected).abs().median() < 1e-5
    assert (found - linear(x)).norm() < 0.02 * linear(x).norm()


def test_sums_do_not_overflow():
    """Where a processor adds up products in 16 bits, two of the largest would not fit."""
    linear = nn.Linear(64, 2, bias=False)
    linear.weight.data = torch.tensor([[1.0], [-1.0]]).expand(2, 64)
    found = Int8Linear(linear)(torch.full((1, 64), 3.0))
    torch.testing.assert_close(found, torch.tensor([[192.0, -192.0]]))


def test_inputs_may_be_all_zero_or_of_one_sign():
    linear = nn.Linear(4, 3)
    assert torch.equal(Int8Linear(linear)(torch.zeros(2, 4)), linear.bias.detach().expand(2, 3))
    x = 5 + torch.rand(2, 4)
    torch.testing.assert_close(Int8Linear(linear)(x), linear(x).detach(), rtol=0, atol=0.1)


@pytest.mark.parametrize("attention", ["plain", "adaptive", "hybrid", "scaled", "focus"])
def test_all_linear_layers_are_replaced_whatever_the_attention(attention):
    torch.manual_seed(0)
    sizes = {"d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "num_mel_bins": 80}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    forms = {"encoder": attention, "decoder": attention}
    config = EchoConfig(
        vocab_size=50, pad_token_id=0, **sizes, **heads, attention=forms, ctc=True, init_std=0.1
    )
    model = EchoForConditionalGeneration(config).eval()
    count = sum(isinstance(module, nn.Linear) for module in model.modules())
    made = int8_copy(model)
    assert sum(isinstance(module, Int8Linear) for module in made.modules()) == count
    assert not any(isinstance(module, nn.Linear) for module in made.modules())
    assert sum(isinstance(module, nn.Linear) for module in model.modules()) == count
    given = {
        "input_features": torch.randn(2, 80, 200),
        "attention_mask": torch.arange(200)[None] < torch.tensor([[200], [120]]),
        "decoder_input_ids": torch.randint(50, (2, 9)),
    }
    with torch.no_grad():
        one, other = model(**given), made(**given)
    for name in ("logits", "ctc_logits"):
        expected, found = getattr(one, name), getattr(other, name)
        assert 0 < (found - expected).norm() < 0.1 * expected.norm()


def test_a_recording_is_transcribed_as_in_floating_point(shared):
    loaded = load_model(str(shared / "models/whisper-tiny.en"))
    recordings = [shared / "data/librispeech/dev/8226-274369-0000.opus"]
    (float32,), (int8,) = (
        transcribe_recordings(loaded, recordings, TranscribeSettings(int8=int8))
        for int8 in (False, True)
    )
    assert float32.text == int8.text
    assert float32.segments != int8.segments  # which are as sure as their numbers


def test_on_a_gpu_it_is_refused(shared, monkeypatch):
    loaded = load_model(str(shared / "models/whisper-tiny.en"))
    monkeypatch.setattr(type(loaded.model), "to", lambda model, device: model)
    monkeypatch.setattr(type(loaded.model), "device", torch.device("cuda"))
    with pytest.raises(ConfigError, match="--int8 is for the CPU, and the model runs on cuda"):
        Transcriber(loaded, TranscribeSettings(int8=True))
