"""The attention dropout of a config reaches every form's attention, in both stacks."""

import pytest
import torch

from echo.attention.forms import FORMS
from echo.model.config import EchoConfig
from echo.model.model import EchoForConditionalGeneration
from tests.model.test_model import SIZES


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_attention_dropout_reaches_the_block(form, stack):
    x = torch.randn(1, 30, SIZES["d_model"])
    for share in (0.0, 0.4):
        attention = {"encoder": form, "decoder": form}
        config = EchoConfig(**SIZES, attention=attention, dropout=0.0, attention_dropout=share)
        model = EchoForConditionalGeneration(config).train()
        for layer in getattr(model.model, stack).layers:
            with torch.no_grad():
                one, other = layer.self_attn(x)[0], layer.self_attn(x)[0]
            assert torch.equal(one, other) == (share == 0)
            layer.eval()
            with torch.no_grad():
                assert torch.equal(layer.self_attn(x)[0], layer.self_attn(x)[0])
