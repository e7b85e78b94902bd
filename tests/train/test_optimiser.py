"""Which parameters the optimiser moves, how fast, and which decay."""

import copy

import pytest
import torch

from echo.config import TrainSettings
from echo.model.config import EchoConfig
from echo.model.model import EchoForConditionalGeneration
from echo.support.errors import ConfigError
from echo.train.optimiser import MuonWithAdamW, build_optimiser, freeze
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


def rate_by_hand(name, rates):
    """The factor of the longest prefix of a parameter's name, with "model." before it or not."""
    prefixes = {
        f"{before}{part}.": rate for part, rate in rates.items() for before in ("", "model.")
    }
    inside = [prefix for prefix in prefixes if f"{name}.".startswith(prefix)]
    return prefixes[max(inside, key=len)] if inside else 1.0


@pytest.mark.parametrize("optimiser", ["adamw", "adafactor", "muon"])
@pytest.mark.parametrize(
    "rates",
    [
        {"decoder": 0.5},
        {"decoder.layers.1": 0.0, "model": 2, "model.decoder": 0.5},
        {"encoder.layers.0.self_attn": 4, "encoder.layers.0.self_attn.local_gain": 8},
    ],
)
@pytest.mark.parametrize("new_rate", [None, 0.5])
def test_each_module_has_its_factor_on_the_rate_it_would_have(model, optimiser, rates, new_rate):
    plain, found = (
        {
            name: group["lr"]
            for group in build_optimiser(model, settings).param_groups
            for name in by_name(model, group["params"])
        }
        for settings in (
            TrainSettings(learning_rate=0.25, new_learning_rate=new_rate, optimiser=optimiser, **r)
            for r in ({}, {"rates": rates})
        )
    )
    assert found.keys() == plain.keys()
    for name, rate in plain.items():
        assert found[name] == rate * rate_by_hand(name, rates), name


def test_a_tied_weight_goes_by_each_of_its_names():
    model = EchoForConditionalGeneration(EchoConfig(**SIZES))
    settings = TrainSettings(learning_rate=1.0, rates={"proj_out": 0.25, "decoder": 0.5})
    rates = {
        name: group["lr"]
        for group in build_optimiser(model, settings).param_groups
        for name in by_name(model, group["params"])
    }
    assert rates["model.decoder.embed_tokens.weight"] == 0.25
    assert rates["model.decoder.layer_norm.weight"] == 0.5
    freeze(model, ["proj_out"])
    assert not model.model.decoder.embed_tokens.weight.requires_grad


@pytest.mark.parametrize(
    ("rates", "problem"),
    [
        ({"decoder": 0.1, "layers": 0.1}, "the model has no module 'layers'"),
        ({"": 0.1}, "the model has no module ''"),
        ({1: 0.1}, "the model has no module 1"),
        ({"encoder.embed_positions": 0.1}, "'encoder.embed_positions' has no effect"),
        ({"decoder": 0.1, "decoder.layers.1": 0.1}, "'decoder.layers.1' has no effect"),
        ({"encoder": 0.1, "model.encoder": 0.1}, "'encoder' has no effect"),
    ],
)
def test_a_rate_that_nothing_goes_by_is_refused(rates, problem):
    model = EchoForConditionalGeneration(EchoConfig(**SIZES))
    freeze(model, ["decoder.layers.1"])
    with pytest.raises(ConfigError, match=rf"train\.rates: .*{problem}"):
        build_optimiser(model, TrainSettings(rates=rates))


HIDDEN = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


def by_name(model, parameters):
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[parameter] for parameter in parameters}


def test_muon_trains_the_matrices_of_hidden_layers_alone(model):
    optimiser = build_optimiser(model, TrainSettings(optimiser="muon", betas=[0.7, 0.8]))
    muon, adamw = optimiser.parts
    groups = [
        by_name(model, (p for g in part.param_groups for p in g["params"]))
        for part in (muon, adamw)
    ]
    wanted = {
        f"model.{stack}.layers.{layer}.{block}{name}.weight"
        for stack in ("encoder", "decoder")
        for layer in range(2)
        for block, inner in (
            ("self_attn.", HIDDEN[:4]),
            ("encoder_attn.", HIDDEN[:4]),
            ("", HIDDEN[4:]),
        )
        for name in inner
        if not (stack == "encoder" and block == "encoder_attn.")
    } & {name for name, _ in model.named_parameters()}
    assert len(wanted) > 20
    assert wanted <= groups[0]
    assert all(name.rsplit(".", 2)[1] not in ("embed_tokens", "ctc_head") for name in groups[0])
    assert not groups[0] & groups[1]
    assert groups[0] | groups[1] == {n for n, p in model.named_parameters() if p.requires_grad}
    assert {g["betas"] for g in adamw.param_groups} == {(0.7, 0.8)}


def test_both_parts_of_muon_step_as_alone_and_resume_exactly():
    """Against torch's optimisers by themselves, also after a checkpoint is loaded half-way."""

    def run(make, reload_at=None):
        torch.manual_seed(0)
        matrix, vector = (torch.nn.Parameter(torch.randn(*shape)) for shape in ((6, 4), (5,)))
        optimisers = make(matrix, vector)
        for step in range(6):
            if step == reload_at:
                state = copy.deepcopy([o.state_dict() for o in optimisers])
                optimisers = make(matrix, vector)
                for optimiser, saved in zip(optimisers, state, strict=True):
                    optimiser.load_state_dict(saved)
            for optimiser in optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = 0.1 / (step + 1)
            matrix.grad, vector.grad = torch.randn(6, 4), torch.randn(5)
            for optimiser in optimisers:
                optimiser.step()
        return matrix, vector

    def together(matrix, vector):
        group = {"lr": 0.1, "weight_decay": 0.1}
        hidden, others = [{"params": [matrix], **group}], [{"params": [vector], **group}]
        return [MuonWithAdamW(hidden, others, (0.9, 0.98))]

    def apart(matrix, vector):
        return [
            torch.optim.Muon([matrix], 0.1, 0.1, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW([vector], 0.1, (0.9, 0.98), weight_decay=0.1, fused=True),
        ]

    wanted = run(apart)
    for found in (run(together), run(together, reload_at=3)):
        assert all(torch.equal(a, b) for a, b in zip(wanted, found, strict=True))


def test_a_setting_without_effect_under_an_optimiser_is_refused(model):
    with pytest.raises(ConfigError, match=r"train\.betas has no effect under adafactor"):
        build_optimiser(model, TrainSettings(optimiser="adafactor", betas=[0.9, 0.99]))
    whisper = EchoForConditionalGeneration(EchoConfig(**SIZES))
    freeze(whisper, ["encoder.layers", "decoder.layers"])
    with pytest.raises(ConfigError, match=r"train\.optimiser=muon trains matrices .* leaves none"):
        build_optimiser(whisper, TrainSettings(optimiser="muon"))
