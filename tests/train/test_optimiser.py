"""Which parameters the optimiser moves, how fast, and which decay."""

import pytest

from echo.config import TrainSettings
from echo.model.model import EchoConfig, EchoForConditionalGeneration
from echo.support.errors import ConfigError
from echo.train.optimiser import build_optimiser, freeze
from tests.model.test_model import SIZES

# What no Whisper has, by the ends of names.
NEW = ("local_gain", "span_predictor.linear.weight", "span_predictor.linear.bias", "ctc_head.bias")


@pytest.fixture(scope="module")
def model():
    return EchoForConditionalGeneration(EchoConfig(**SIZES, ctc=True))


def settings_of(model, **settings):
    """By parameter, its learning rate and decay."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    optimiser = build_optimiser(model, TrainSettings(**settings))
    return {
        names[parameter]: (group["lr"], group["weight_decay"], group["betas"])
        for group in optimiser.param_groups
        for parameter in group["params"]
    }


@pytest.mark.parametrize("new_rate", [None, 0.5, 0.0])
def test_each_parameter_has_its_rate_and_decay(model, new_rate):
    found = settings_of(
        model, learning_rate=0.25, new_learning_rate=new_rate, weight_decay=0.125, betas=[0.7, 0.8]
    )
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert found.keys() == trained.keys()
    for name, parameter in trained.items():
        new = name.endswith((*NEW, "ctc_head.weight"))
        rate = new_rate if new and new_rate is not None else 0.25
        assert found[name] == (rate, 0.125 if parameter.ndim > 1 else 0.0, (0.7, 0.8)), name


def test_what_is_frozen_is_not_trained():
    model = EchoForConditionalGeneration(EchoConfig(**SIZES))
    before = set(settings_of(model))
    freeze(model, ["encoder.layers.1", "model.decoder.layer_norm.bias", "model.encoder.conv2"])
    left = before - set(settings_of(model))
    prefixes = ("model.encoder.layers.1.", "model.encoder.conv2.", "model.decoder.layer_norm.bias")
    assert left == {name for name in before if name.startswith(prefixes)}
    for part in ("encoder.layers.9", "layers", "encoder.conv", "nothing", ""):
        with pytest.raises(ConfigError, match="the model has no module"):
            freeze(model, [part])
    freeze(model, ["encoder", "decoder"])
    with pytest.raises(ConfigError, match="leaves nothing to train"):
        build_optimiser(model, TrainSettings())
