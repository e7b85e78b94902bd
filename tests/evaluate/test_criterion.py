"""What the best model is chosen by."""

import pytest

from echo.config import RunConfig
from echo.evaluate.criterion import read_criterion, run_criterion
from echo.support.errors import ConfigError
from echo.support.settings import build

NAMES = ["own", "general", "far-field_2"]
WERS = {"own": 0.2, "general": 0.05, "far-field_2": 0.8}


@pytest.mark.parametrize(
    ("expression", "wer"),
    [
        (None, 0.2),
        ("general", 0.05),
        ("own + 0.5 general", (0.2 + 0.5 * 0.05) / 1.5),
        ("own+2 general+.5 far-field_2", (0.2 + 2 * 0.05 + 0.5 * 0.8) / 3.5),
    ],
)
def test_it_is_the_weighted_mean(expression, wer):
    criterion = read_criterion(expression, NAMES, "train.best")
    assert criterion.wer(WERS) == pytest.approx(wer)
    again = read_criterion(str(criterion), NAMES, "train.best")
    assert again.wer(WERS) == pytest.approx(wer)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("own + libri", "train.best names the data set 'libri', but there is own, general, far"),
        ("own + own", "train.best names the data set 'own' twice"),
        ("own - general", "'own - general' is not the name of a data set, with or without"),
        ("own + 0 general", "'0 general' is not the name"),
        ("own + -1 general", "'-1 general' is not the name"),
        ("0.5own", "'0.5own' is not the name"),
        ("own +", "'' is not the name"),
        ("", "'' is not the name"),
        ("__import__('os')", "is not the name"),
    ],
)
def test_what_is_no_criterion_is_named(expression, message):
    with pytest.raises(ConfigError, match=message):
        read_criterion(expression, NAMES, "train.best")


def config(evaluated, best):
    content = {"data": {"train": "a", "eval": evaluated}, "train": {"best": best}}
    return build(RunConfig, content, "run.yaml")


def test_a_run_chooses_among_the_sets_of_its_config():
    criterion = run_criterion(config({"own": "a.jsonl", "general": "b.jsonl"}, "general"))
    assert criterion.wer({"own": 0.3, "general": 0.1}) == 0.1
    with pytest.raises(ConfigError, match=r"train\.best has no effect on a single data set"):
        run_criterion(config("a.jsonl", "own"))


@pytest.mark.parametrize(
    ("evaluated", "message"),
    [
        ({}, "data.eval is {}, but must be a mapping from names"),
        ({"my set": "a"}, "data.eval is .*, but must be a mapping from names"),
        ({"own": 3}, "data.eval.own is 3, but must be text"),
        ([3], r"data.eval\[0\] is 3, but must be text"),
    ],
)
def test_sets_have_names_and_sources(evaluated, message):
    with pytest.raises(ConfigError, match=message):
        config(evaluated, None)
