"""Who takes part in a pilot, and which settings win."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from echo.data.tokenizer import train_tokenizer
from echo.pilot.contenders import read_pilot
from echo.support.errors import ConfigError
from echo.support.yaml import read_yaml
from echo.train.build import build_model

CONFIGS = Path(__file__).parents[2] / "configs"
FOCUS = "configs/attention/focus.yaml"
CONTENT = {
    "seed": 7,
    "data": {"corpus": "espeak"},
    "train": {"max_steps": 30, "learning_rate": 1e-3},
    "models": {
        "echo": {"train": {"learning_rate": 2e-3}},
        "whisper": {"model": {"attention": {"encoder": "plain"}}},
    },
}


def read(*overrides, seeds=None, **changes):
    return read_pilot({**CONTENT, **changes}, "pilot.yaml", overrides, seeds)


def configs(*overrides, **changes):
    return {c.name: c.config for c in read(*overrides, **changes).contenders}


def rates(*overrides):
    return [config.train.learning_rate for config in configs(*overrides).values()]


def test_the_command_line_wins_and_a_contender_named_there_wins_over_all(tmp_path):
    preset = tmp_path / "slow.yaml"
    preset.write_text("train: {learning_rate: 1e-5}\n")
    assert rates() == [2e-3, 1e-3]
    assert rates("train.learning_rate=3e-3") == [3e-3, 3e-3]
    assert rates(str(preset)) == [1e-5, 1e-5]
    own = "models.echo.train.learning_rate=4e-3"
    assert rates(own) == [4e-3, 1e-3]
    assert rates(own, "train.learning_rate=3e-3") == [4e-3, 3e-3]
    assert rates("train.learning_rate=3e-3", own) == [4e-3, 3e-3]


def test_presets_are_laid_over_each_other_in_their_order():
    wanted = read_yaml(FOCUS)["model"]["attention"]["encoder"]
    span = {"model": {"attention": {"encoder": {"max_span": 40}}}}
    models = {"focus": FOCUS, "wide": [FOCUS, span], "whisper": None}
    found = configs(models=models)
    assert found["focus"].model.attention["encoder"] == wanted
    assert found["wide"].model.attention["encoder"] == {**wanted, "max_span": 40}
    assert found["whisper"].model.attention == {}


def test_the_command_line_adds_a_model_by_a_whole_preset():
    found = configs(f"models.focus={FOCUS}", "models.focus.train.learning_rate=9e-3")
    assert list(found) == ["echo", "whisper", "focus"]
    assert found["focus"].model.attention["encoder"]["form"] == "focus"
    assert found["focus"].train.learning_rate == 9e-3
    with pytest.raises(ConfigError) as error:
        read("models.focsu.train.learning_rate=1")
    assert "there is no model 'focsu'; the models are: echo, whisper" in str(error.value)


@pytest.mark.parametrize("told", [FOCUS, "model.attention.encoder=focus", "model.heads=4"])
def test_what_models_are_compared_for_is_not_replaced_for_all(told):
    """One model's, or what all have in common, is."""
    content = {
        "model": {"heads": 2},
        "models": {**CONTENT["models"], "echo": {"model": {"heads": 8}}},
    }
    with pytest.raises(ConfigError, match=r"command line: model\.(attention|heads) would be"):
        read(told, **content)
    if "=" in told:
        assert len(read(f"models.echo.{told}", **content).contenders) == 2
    found = configs("model.dropout=0.3", **content)
    assert {config.model.dropout for config in found.values()} == {0.3}


def test_a_budget_is_of_steps_or_of_seconds():
    def budgets(*overrides, **changes):
        found = configs(*overrides, **changes).values()
        return {(c.train.max_steps, c.train.max_seconds) for c in found}

    assert budgets() == {(30, None)}
    assert budgets(budget={"steps": 40}) == {(40, None)}
    assert budgets(budget={"seconds": 40}) == {(None, 40.0)}
    assert budgets("budget.seconds=50", budget={"steps": 40}) == {(None, 50.0)}
    assert budgets("train.max_steps=9", budget={"seconds": 40}) == {(9, 40.0)}


def test_the_baseline_is_the_file_s_last_model_or_the_named_one():
    assert read().baseline == "whisper"
    assert read(f"models.focus={FOCUS}").baseline == "whisper"
    assert read(baseline="echo").baseline == "echo"
    assert read("baseline=echo", "turn=5").turn == 5


def test_seeds_are_the_config_s_or_those_asked_for():
    assert read().seeds == [7]
    pilot = read(seeds=[1, 2, 3])
    assert pilot.seeds == [1, 2, 3]
    assert pilot.contenders[0].with_seed(2).seed == 2


def test_a_seed_beside_seeds_is_refused():
    with pytest.raises(ConfigError, match="seed has no effect with --seeds"):
        read("seed=3", seeds=[1, 2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": {}}, "pilot.yaml: 'models' must map each model's name to its own settings"),
        ({"models": {"a": 3}}, "pilot.yaml: models.a is 3, but must be a mapping or a .yaml file"),
        ({"models": {"a": "b"}}, "pilot.yaml: models.a is 'b', but must be"),
        ({"models": {"a": "no.yaml"}}, "pilot.yaml: models.a: no.yaml: cannot be read"),
        ({"models": {"Report.html": {}}}, "models.Report.html is not a valid folder name"),
        ({"models": {"a/b": {}}}, "pilot.yaml: models.a/b is not a valid folder name"),
        ({"models": {"a": {"modl": {}}}}, "pilot.yaml: unknown key 'models.a.modl'; did you"),
        ({"budget": {}}, "pilot.yaml: budget must have either steps or seconds"),
        ({"budget": {"steps": 1, "seconds": 1}}, "pilot.yaml: budget must have either"),
        ({"budget": {"steps": 0}}, "pilot.yaml: budget.steps is 0, but must be 1 or more"),
        ({"turn": 0}, "pilot.yaml: turn is 0, but must be 1 or more"),
        ({"baseline": "x"}, "pilot.yaml: baseline is 'x', but the models are: echo, whisper"),
        (
            {"models": {"a": {}, "b": {"seed": 3}}},
            "models.a and models.b differ in seed, which must",
        ),
        (
            {"models": {"a": {}, "b": {"data": {"split": "dev"}}}},
            "pilot.yaml: models.a and models.b differ in data.split",
        ),
        ({"seeds": [1, 2, 1]}, "--seeds: 1 is given twice"),
        ({"seeds": [-1]}, "--seeds: seed is -1, but must be from 0 to"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(ConfigError) as error:
        read(**changes)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "models.echo.train.lerning_rate=1",
            "unknown key 'models.echo.train.lerning_rate'; did you mean "
            "models.echo.train.learning_rate?",
        ),
        ("models.echo=[{lora: {rnk: 2}}]", "unknown key 'models.echo.lora.rnk'; did you mean"),
        ("models.new={train: 3}", "models.new.train is 3, but must be a mapping"),
        ("models=3", "models is 3, but must be a mapping"),
        ("basline=echo", "unknown key 'basline'; did you mean baseline?"),
        ("budget={step: 3}", "unknown key 'budget.step'; did you mean budget.steps?"),
        ("modles.echo.seed=3", "unknown key 'modles'; did you mean models?"),
    ],
)
def test_wrong_overrides_are_named_by_their_whole_key(override, message):
    with pytest.raises(ConfigError) as error:
        read(override)
    assert str(error.value).startswith(f"command line: {message}")


def test_contenders_may_differ_in_how_they_are_trained():
    other = {"data": {"max_batch_seconds": 5, "augment": {"time_masks": 0}}}
    assert len(read(models={"a": {}, "b": other}).contenders) == 2


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("pilot*.yaml")), ids=lambda path: path.stem)
def test_every_pilot_that_comes_with_echo_can_be_built(path):
    """Its settings are read, and every contender's model takes a batch."""
    assert_can_be_built(read_pilot(read_yaml(path), path.name))


@pytest.mark.parametrize("name", ["pilot.yaml", "pilot_digits.yaml"])
@pytest.mark.parametrize(("control", "layers"), [("no_window", range(4)), ("rotary_alone", (2, 3))])
def test_the_controls_join_a_pilot(name, control, layers):
    """The local branch that is held at nothing is, and stays, out of training; and the control of
    the pilot's own window has as many weights or more, but for a half of a percent."""
    controls = {path.stem: path for path in (CONFIGS / "controls").iterdir()}
    overrides = [f"models.{control}={path}" for control, path in controls.items()]
    pilot = read_pilot(read_yaml(CONFIGS / name), name, overrides)
    assert_can_be_built(pilot)
    tokenizer = train_tokenizer(["one two three"], "characters", None)
    configs = {contender.name: contender.config for contender in pilot.contenders}
    model, echo = (build_model(configs[each], tokenizer) for each in (control, "echo"))
    gains = [f"encoder.layers.{layer}.self_attn.local_gain" for layer in layers]
    assert configs[control].train.freeze == gains
    assert all(model.model.get_parameter(gain).eq(0).all() for gain in gains)
    if control == "no_window":
        assert model.num_parameters() > 0.995 * echo.num_parameters()


def assert_can_be_built(pilot):
    tokenizer = train_tokenizer(["one two three"], "characters", None)
    for contender in pilot.contenders:
        model = replace(contender.config.model, d_model=contender.config.model.heads * 6)
        built = build_model(replace(contender.config, model=model), tokenizer)
        output = built(torch.randn(1, 80, 50), decoder_input_ids=torch.tensor([[1, 4]]))
        assert torch.isfinite(output.ctc_logits).all(), contender.name
