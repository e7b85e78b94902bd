import contextlib
import dataclasses
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo.config import RunConfig, load_config
from echo.support.errors import ConfigError
from echo.support.settings import apply_overrides, build, to_dict


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {max_step: 3}", r"unknown key 'train.max_step'; did you mean train.max_steps\?"),
        ("max_steps: 3", r"unknown key 'max_steps'; did you mean train.max_steps\?"),
        ("rank: 3", r"unknown key 'rank'; did you mean lora.rank\?"),
        ("data: {xyz: 3}", r"unknown key 'data.xyz'; there are: train, eval, corpus, "),
        ("seed: 1\ntrain:\n  max_steps: 3\n  max_steps: 4", "line 4 has the key 'max_steps' a sec"),
        ("seed: 1\n'seed': 1", "line 2 has the key 'seed' a second time"),
        ("train: {max_steps: many}", "train.max_steps is 'many', but must be a whole number"),
        ("train: {max_steps: 3.5}", "train.max_steps is 3.5, but must be a whole number"),
        ("train: {max_steps: true}", "train.max_steps is True, but must be a whole number"),
        ("model: {dropout: no}", "model.dropout is False, but must be a number"),
        ("data: {root: 1}", "data.root is 1, but must be text"),
        ("data: {on_error: ignore}", "data.on_error is 'ignore', but must be one of: raise, skip"),
        ("data: {augment: {speed: [1, fast]}}", r"data.augment.speed\[1\] is 'fast', but must be"),
        ("data: 5", "data is 5, but must be a mapping"),
        ("data: {train: 5}", "data.train is 5, but must be text or a list"),
        ("data: {train: [5]}", r"data.train\[0\] is 5, but must be text or a mapping"),
        ("data: {train: [{source: a, wait: 2}]}", r"unknown key 'data.train\[0\].wait'"),
        ("data: {train: [{source: a, weight: 0}]}", r"weight"),
        ("data: {train: [{weight: 2}]}", r"data.train\[0\] lacks 'source'"),
        ("- 1", r"holds \[1\], but must hold settings, as key: value"),
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


def test_an_empty_section_undoes_nothing(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("train: {max_steps: 7}\ndata:\n")
    assert load_config(path, ["loss.teacher="]).train.max_steps == 7
    with pytest.raises(ConfigError, match="command line: train is None, but must be a mapping"):
        load_config(path, ["train="])


def test_a_resolved_config_builds_itself_again():
    changes = {"model": {"attention": {"encoder": "plain"}}}
    changes["data"] = {"train": ["a.jsonl", {"source": "b", "weight": 2}]}
    config = build(RunConfig, {"seed": 7, **changes}, "here")
    assert build(RunConfig, to_dict(config), "there") == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.augment.speed=[]", "data.augment.speed is [], but must be a list of 1 or more"),
        ("data.augment.speed=[0]", "data.augment.speed[0] is 0, but must be from 0.1 to 10"),
        ("data.augment.speed=[1, .nan]", "data.augment.speed[1] is nan, but must be from 0.1"),
        ("data.augment.time_mask_share=1.5", "data.augment.time_mask_share is 1.5, but must be"),
        ("data.workers=-1", "data.workers is -1, but must be 0 or more"),
        ("data.max_batch_seconds=0", "data.max_batch_seconds is 0, but must be more than 0"),
        ("data.pad_to=-1", "data.pad_to is -1, but must be one of: batch or from 0 to 86400"),
        ("train.log_every=0", "train.log_every is 0, but must be 1 or more"),
        ("train.max_steps=0xfffffffffffffff1", "train.max_steps is 18446744073709551601, but"),
        ("train.learning_rate=.inf", "train.learning_rate is inf, but must be 0 or more"),
        ("train.learning_rate=-1e-3", "train.learning_rate is '-1e-3', but must be 0 or more"),
        ("train.betas=[0.9]", "train.betas is [0.9], but must be a list of 2"),
        ("train.betas=[0.9, 1]", "train.betas[1] is 1, but must be from 0 to 0.999999"),
        ("train.patience=0", "train.patience is 0, but must be 1 or more"),
        ("loss.ctc_weight=2", "loss.ctc_weight is 2, but must be from 0 to 1"),
        ("lora.rank=0", "lora.rank is 0, but must be from 1 to 1048576"),
        ("seed=-1", "seed is -1, but must be from 0 to 4294967295"),
    ],
)
def test_a_value_out_of_its_bounds_names_the_key(override, message):
    with pytest.raises(ConfigError) as caught:
        build(RunConfig, apply_overrides({}, [override]), "here")
    assert f"here: {message}" in str(caught.value)


def numbers(kind):
    """The types of numbers within a type."""
    if kind in (int, float) or get_origin(kind) is Annotated:
        return [kind]
    return [number for inner in get_args(kind) for number in numbers(inner)]


def test_every_number_has_bounds():
    def fields(cls, key=""):
        for name, kind in get_type_hints(cls, include_extras=True).items():
            for inner in (kind, *get_args(kind)):
                if isinstance(inner, type) and dataclasses.is_dataclass(inner):
                    yield from fields(inner, f"{key}{name}.")
            yield f"{key}{name}", kind

    bounded = [key for key, kind in fields(RunConfig) if numbers(kind)]
    assert len(bounded) > 40
    assert [k for k, kind in fields(RunConfig) if {int, float} & set(numbers(kind))] == []


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
)
MERGES = "a: &a {k0: 1, k1: 1}\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} {{<<: [{', '.join([f'*{chr(97 + i)}'] * 9)}]}}\n"
    for i in range(9)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (LAUGHS, "its aliases unfold to more than 100000 values"),
        (MERGES, "its aliases unfold to more than 100000 values"),
        ("a: &a [*a]", "an alias contains itself"),
        ("[" * 100_000, "it is nested too deeply"),
        ("seed: " + "9" * 10_000, "Exceeds the limit"),
        ("seed: 0x" + "f" * 10_000, "a whole number has more than 64 bits"),
        ("seed: 2020-13-45", "month must be in 1..12"),
        ("seed: !!python/object/apply:os.system [echo]", "could not determine a constructor"),
        ("seed: !!timestamp x", ""),
        (
            "data:\n  eval: {no: a.jsonl}",
            "line 2 has the key no, which is not text in YAML: put it",
        ),
        ("data: {eval: {null: a}}", "the key null, which is not text"),
        ("data: {eval: {.nan: a}}", "the key .nan, which is not text"),
        ("models: {2020-01-01: {}}", "the key 2020-01-01, which is not text"),
        ("data: {eval: {[a]: b}}", "a list or a mapping as a key"),
        ("seed: \0", "special characters are not allowed"),
    ],
)
def test_yaml_that_would_run_or_grow_is_refused(tmp_path, text, reason):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: is not YAML (")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["no", "null", "yes", "y"])
def test_a_name_in_quotes_is_a_name(tmp_path, name):
    path = tmp_path / "run.yaml"
    path.write_text(f"data: {{eval: {{'{name}': a.jsonl}}}}")
    assert load_config(path).data.eval == {name: "a.jsonl"}


def test_aliases_and_merge_keys_are_read(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("train: &t {max_steps: 3}\nmodel: {attention: {encoder: &f {form: plain}}}")
    assert load_config(path).train.max_steps == 3
    assert apply_overrides({}, ["a={x: &x {b: 1}, y: {<<: *x}, z: *x}"]) == {
        "a": {"x": {"b": 1}, "y": {"b": 1}, "z": {"b": 1}}
    }


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


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.max_steps=x", "command line: train.max_steps is 'x', but must be a whole number"),
        ("train.max_step=1", "command line: unknown key 'train.max_step'; did you mean"),
        ("train..max_steps=1", "'train..max_steps=1' is neither key=value nor a .yaml file"),
        ("data.train=[{source: x, weigth: 2}]", "command line: unknown key 'data.train[0].weigth'"),
        ("train={max_steps: 1, max_steps: 2}", "train: '{max_steps: 1, max_steps: 2}' is not a"),
        ("laid.yaml", "laid.yaml: train.max_steps is 'y', but must be a whole number"),
    ],
)
def test_a_value_is_blamed_where_it_stands(tmp_path, monkeypatch, override, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text("train: {max_steps: wrong}")
    (tmp_path / "laid.yaml").write_text("train: {max_steps: y}")
    with pytest.raises(ConfigError) as caught:
        load_config("run.yaml", ["train.max_steps=5", override])
    assert str(caught.value).startswith(message)
    with pytest.raises(ConfigError, match=r"^run\.yaml: train\.max_steps is 'wrong'"):
        load_config("run.yaml")
    assert load_config("run.yaml", ["train.max_steps=5"]).train.max_steps == 5


@pytest.mark.parametrize(
    "override",
    [
        *("model.d_model=4611686018427387904", "model.encoder_layers=10000000"),
        *("model.decoder_layers=9223372036854775807", "model.heads=9223372036854775807"),
        *("model.ffn_dim=9223372036854775807", "model.max_seconds=1e18", "data.workers=1000000000"),
        *("model.max_tokens=4611686018427387904", "model.n_mels=4611686018427387904"),
        *("data.augment.time_masks=1000000000000", "decode.beams=4611686018427387904"),
    ],
)
def test_sizes_that_no_machine_holds_are_refused(tmp_path, override):
    (tmp_path / "run.yaml").write_text("")
    key = override.partition("=")[0]
    with pytest.raises(ConfigError, match=rf"{key} is .*, but must be from"):
        load_config(tmp_path / "run.yaml", [override])
