"""Counted operations, against what is known of the layers."""

import pytest

from echo.config import RunConfig
from echo.data.tokenizer import train_tokenizer
from echo.pilot.flops import training_flops
from echo.support.settings import build
from echo.train.build import build_model

SIZES = {"d_model": 32, "heads": 2, "encoder_layers": 1, "decoder_layers": 1}


def flops(**model):
    config = build(RunConfig, {"model": {**SIZES, **model}}, "test")
    model = build_model(config, train_tokenizer(["ab"])).eval()
    found = training_flops(model)
    assert training_flops(model) == found  # neither chance nor gradients are left
    assert all(parameter.grad is None for parameter in model.parameters())
    return found


def test_a_layer_more_adds_its_matrix_products():
    """Twice the products of the forward pass are in the backward pass."""
    one, two = (flops(encoder_layers=n, attention={"encoder": "plain"}) for n in (1, 2))
    frames, width = 50, 32  # in a second; of the layer
    weights = (4 + 2 * 4) * width**2
    attention = 2 * 500 * width  # of each of 500 frames to all, for weights and values
    assert two - one == pytest.approx(3 * 2 * frames * (weights + attention))


def test_a_local_branch_costs_something():
    plain, adaptive = (flops(attention={"encoder": name}) for name in ("plain", "adaptive"))
    assert plain < adaptive < 2 * plain
