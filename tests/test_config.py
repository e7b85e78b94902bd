import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo.config import RunConfig, apply_overrides, build, load_config, to_dict
from echo.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {max_step: 3}", r"unknown key 'train.max_step'; there are: max_steps, "),
        ("train: {max_steps: many}", "train.max_steps is 'many', but must be a whole number"),
        ("train: {max_steps: 3.5}", "train.max_steps is 3.5, but must be a whole number"),
        ("train: {max_steps: true}", "train.max_steps is True, but must be a whole number"),
        ("model: {dropout: no}", "model.dropout is False, but must be a number"),
        ("data: {root: 1}", "data.root is 1, but must be text"),
        ("data: {on_error: ignore}", "data.on_error is 'ignore', but must be one of: raise, skip"),
        ("data: {augment: {speed: [1, fast]}}", r"data.augment.speed\[1\] is 'fast', but must be"),
        ("data: 5", "data is 5, not a mapping"),
        ("- 1", "holds list, not a mapping of settings"),
        ("train: {", "is not YAML"),
    ],
)
def test_a_wrong_file_is_one_sentence_with_its_name_and_key(tmp_path, text, message):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert "run.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        load_config(tmp_path / "none.yaml")


def test_overrides_win_and_keep_the_rest(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("train: {max_steps: 10, warmup_steps: 2}\nmodel: {heads: 4}")
    overrides = ["train.max_steps=20", "train.learning_rate=1e-4", "data.train=a=b.jsonl"]
    config = load_config(path, [*overrides, "data.augment.speed=[1.0]"])
    assert config.train.max_steps == 20
    assert config.train.learning_rate == 1e-4
    assert config.train.warmup_steps == 2
    assert config.model.heads == 4
    assert config.data.train == "a=b.jsonl"
    assert config.data.augment.speed == [1.0]
    with pytest.raises(ConfigError, match=r"'steps' is neither key=value nor a \.yaml file"):
        load_config(path, ["steps"])


def test_a_resolved_config_builds_itself_again():
    config = build(RunConfig, {"seed": 7, "model": {"attention": {"encoder": "plain"}}}, "here")
    assert build(RunConfig, to_dict(config), "there") == config


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    st.sampled_from(["", "train", "data", "data.augment.speed", "model.attention", "seed"]),
)
def test_anything_else_is_a_config_error_too(value, key):
    content = value
    for part in reversed(key.split(".")) if key else ():
        content = {part: content}
    with contextlib.suppress(ConfigError):
        assert isinstance(build(RunConfig, content, "fuzz"), RunConfig)


@given(st.text())
def test_any_override_is_understood_or_refused(text):
    with contextlib.suppress(ConfigError):
        apply_overrides({"train": {"max_steps": 1}}, [text])
