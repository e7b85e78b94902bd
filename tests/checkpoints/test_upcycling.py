"""Where the local branch of a block made from a Whisper's begins: seen with its gain not at 0."""

import pytest
import torch

from echo.attention.adaptive import AdaptiveAttention
from echo.checkpoints.convert import convert
from echo.model.model import EchoForConditionalGeneration
from tests.small_whisper import save_whisper, small_whisper, weights

STACKS = ("encoder", "decoder")


@pytest.fixture
def whisper(tmp_path):
    """One whose norms and biases are those of no new model."""
    model = small_whisper()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return save_whisper(model, tmp_path / "whisper")


def both(settings):
    return [f"attention.{stack}={settings}" for stack in STACKS]


def test_local_projections_begin_as_whispers(whisper, tmp_path):
    convert(whisper, tmp_path / "echo", both("{form: adaptive, local_input: projected}"))
    given, found = weights(whisper), weights(tmp_path / "echo")
    copied = [name for name in found if ".local_" in name and "gain" not in name]
    assert len(copied) == 2 * 2 * 5  # stacks, layers; three matrices and two biases
    for name in copied:
        assert torch.equal(found[name], given[name.replace("local_", "")]), name


@pytest.mark.parametrize("form", ["hybrid", "scaled", "focus"])
def test_both_norms_of_a_hard_block_begin_as_whispers(whisper, tmp_path, form):
    convert(whisper, tmp_path / "echo", both(form))
    given, found = weights(whisper), weights(tmp_path / "echo")
    for stack in STACKS:
        for layer in (f"model.{stack}.layers.{i}." for i in range(2)):
            for norm in ("ln_local", "ln_global"):
                for part in ("weight", "bias"):
                    own = found[f"{layer}self_attn.{norm}.{part}"]
                    assert torch.equal(own, given[f"{layer}self_attn_layer_norm.{part}"])
                    assert own.std() > 0.05  # not as in a new model


def test_projections_of_its_own_first_give_what_shared_ones_give(whisper, tmp_path):
    """The local branch then sees the same queries, keys and values, however much it counts."""
    outputs = []
    for source in ("shared", "projected"):
        folder = tmp_path / source
        convert(whisper, folder, both(f"{{form: adaptive, local_input: {source}}}"))
        model = EchoForConditionalGeneration.from_pretrained(folder).eval()
        predictors = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for block in (b for b in model.modules() if isinstance(b, AdaptiveAttention)):
                block.local_gain.fill_(0.7)
                linear = block.span_predictor.linear
                linear.weight.copy_(torch.randn(linear.weight.shape, generator=predictors))
            features = torch.randn(1, 80, 200, generator=torch.Generator().manual_seed(4))
            ids = torch.tensor([[2, 6, 9, 11]])
            outputs.append(model(features, decoder_input_ids=ids).logits)
    assert outputs[0].std() > 0.1
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-4)
