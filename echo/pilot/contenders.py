"""A pilot's settings: its models, and how long each is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import attrgetter
from typing import Any

from echo.config import RunConfig
from echo.support.errors import ConfigError
from echo.support.files import is_file_name, is_reserved
from echo.support.settings import (
    COMMAND_LINE,
    Positive,
    PositiveAmount,
    build,
    merge,
    read_override,
)
from echo.support.text import brief
from echo.support.yaml import read_yaml

Layers = dict[str, dict[str, Any]]  # settings by the contender's name

# Contenders must agree in the utterances that they are trained and measured on, in the seed, and
# in the precision, which accelerate sets once for a process.
DATA = ["train", "eval", "corpus", "root", "split", "audio_column", "text_column", "speaker_column"]
SHARED = ("seed", *(f"data.{key}" for key in DATA), "train.precision")


@dataclass(frozen=True)
class Budget:
    """How long each contender is trained, in steps or seconds."""

    # Training steps of each contender; null if seconds are given.
    steps: Positive | None = None
    # Training seconds of each contender, without evaluations and checkpoints; null if steps are
    # given.
    seconds: PositiveAmount | None = None


@dataclass(frozen=True)
class PilotSettings:
    """The keys of a pilot's file besides its models and the settings of their runs."""

    # Name of the contender that the others are compared with; null is the last in the file.
    baseline: str | None = None
    # How long each contender is trained; null is train.max_steps.
    budget: Budget | None = None
    # Steps that a contender trains before the next one's turn.
    turn: Positive = 20


@dataclass(frozen=True)
class PilotFile(PilotSettings, RunConfig):
    """All keys of a pilot's file."""

    # Settings of each model by its name.
    models: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Contender:
    name: str
    config: RunConfig

    def with_seed(self, seed: int) -> RunConfig:
        return replace(self.config, seed=seed)


@dataclass(frozen=True)
class Pilot:
    """Models to train on the same data and compare."""

    contenders: list[Contender]
    baseline: str
    seeds: list[int]
    turn: int


def read_pilot(
    content: Mapping[str, Any],
    source: str,
    overrides: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
) -> Pilot:
    """Reads a pilot's settings from a file's content, the command line's `KEY=VALUE` and files, and
    seeds, which are by default the config's own. Messages call the file `source`.

    Later ones win: the file's settings for all, the file's for one contender, the budget, the
    command line's for all, the command line's for one contender.

    Raises:
        ConfigError: naming the key at fault.
    """
    common = dict(content)
    models = common.pop("models", None)
    if not isinstance(models, Mapping) or not models:
        raise ConfigError(f"{source}: 'models' must map each model's name to its own settings")
    build(PilotFile, common, source)
    own = {name: own_settings(value, source, name) for name, value in models.items()}
    told, told_models = read_overrides(overrides, own)
    if seeds is not None and "seed" in told:
        raise ConfigError(f"{COMMAND_LINE}: seed has no effect with --seeds: leave one out")
    names = [*{**own, **told_models}]
    settings = build(PilotSettings, take_pilot_settings(common, told), source)
    baseline = [*own][-1] if settings.baseline is None else settings.baseline
    if baseline not in names:
        raise ConfigError(
            f"{source}: baseline is {brief(baseline)!r}, but the models are: {', '.join(names)}"
        )
    budget = budget_settings(settings.budget, source)

    def contender(name: str, told: Mapping[str, Any]) -> Contender:
        layers = (common, own.get(name, {}), budget, told, told_models.get(name, {}))
        content = reduce(merge, layers)
        return Contender(name, build(RunConfig, content, source, f"models.{name}"))

    contenders = [contender(name, told) for name in names]
    check_told(told, contenders, [contender(name, {}) for name in names])
    check_comparable(contenders, source)
    return Pilot(contenders, baseline, check_seeds(seeds, contenders[0].config), settings.turn)


def own_settings(value: Any, source: str, name: Any) -> dict[str, Any]:
    """One contender's settings: a mapping, a preset (the name of a YAML file), or a list of these,
    in which later ones win."""
    key = f"{source}: models.{brief(str(name))}"
    if not is_file_name(name) or is_reserved(name):
        raise ConfigError(f"{key} is not a valid folder name")
    settings: dict[str, Any] = {}
    for layer in value if isinstance(value, list) else [value]:
        if isinstance(layer, str) and layer.endswith(".yaml"):
            try:
                layer = read_yaml(layer)
            except ConfigError as error:
                raise ConfigError(f"{key}: {error}") from None
        if not isinstance(layer, Mapping | None):
            raise ConfigError(f"{key} is {layer!r}, but must be a mapping or a .yaml file")
        build(RunConfig, layer, source, f"models.{name}")
        settings = merge(settings, layer or {})
    return settings


def read_overrides(overrides: Sequence[str], own: Layers) -> tuple[dict[str, Any], Layers]:
    """The command line's settings, for all and for single contenders. A mapping or preset,
    `models.NAME=...`, adds a contender."""
    told: dict[str, Any] = {}
    told_models: Layers = {}
    for override in overrides:
        content, place = read_override(override)
        models = content.pop("models", {})
        if not isinstance(models, Mapping):
            raise ConfigError(f"{place}: models is {models!r}, but must be a mapping")
        for name, value in models.items():
            known = [*{**own, **told_models}]
            is_part = "=" in override and override.partition("=")[0].count(".") > 1
            if name not in known and is_part:
                raise ConfigError(
                    f"{brief(override)}: there is no model {name!r}; the models are: "
                    f"{', '.join(known)}. models.{name}=PRESET.yaml adds one"
                )
            settings = own_settings(value, place, name)
            told_models[name] = merge(told_models.get(name, {}), settings)
        if "budget" in content:  # a later one replaces an earlier one, whatever its unit
            told.pop("budget", None)
        build(PilotFile, content, place)
        told = merge(told, content)
    return told, told_models


def take_pilot_settings(*layers: dict[str, Any]) -> dict[str, Any]:
    """Takes the pilot's own settings out of layers of settings, of which the later win."""
    return {
        key: layer.pop(key)
        for layer in layers
        for key in PilotSettings.__dataclass_fields__
        if key in layer
    }


def budget_settings(budget: Budget | None, source: str) -> dict[str, Any]:
    """The settings of a run that a budget sets."""
    if budget is None:
        return {}
    if (budget.steps is None) == (budget.seconds is None):
        raise ConfigError(f"{source}: budget must have either steps or seconds")
    return {"train": {"max_steps": budget.steps, "max_seconds": budget.seconds}}


def check_comparable(contenders: Sequence[Contender], source: str) -> None:
    """Checks that contenders agree in what they must share, and are measured on one data set."""
    first, *others = contenders
    if isinstance(first.config.data.eval, dict):
        raise ConfigError(
            f"{source}: data.eval has several sets, but a pilot compares its models on one"
        )
    for other in others:
        for key in SHARED:
            if not same_for_all([first, other], key):
                raise ConfigError(
                    f"{source}: models.{first.name} and models.{other.name} differ in {key}, which "
                    "must be the same for all"
                )


def check_told(
    told: Mapping[str, Any], contenders: Sequence[Contender], without: Sequence[Contender]
) -> None:
    """Checks that what the command line tells all models leaves what they are compared for: the
    settings of `model` in which they differ without it."""
    for name in told.get("model") or {}:
        key = f"model.{name}"
        if same_for_all(contenders, key) and not same_for_all(without, key):
            raise ConfigError(
                f"{COMMAND_LINE}: {key} would be the same for all models, which differ in it; use "
                f"models.NAME.{key}=... for one of them, or models.NAME=FILE.yaml to add one"
            )


def same_for_all(contenders: Sequence[Contender], key: str) -> bool:
    first, *others = map(attrgetter(f"config.{key}"), contenders)
    return all(value == first for value in others)


def check_seeds(seeds: Sequence[int] | None, config: RunConfig) -> list[int]:
    """The seeds to train with; by default the config's own."""
    if seeds is None:
        return [config.seed]
    for index, seed in enumerate(seeds):
        build(RunConfig, {"seed": seed}, "--seeds")
        if seed in seeds[:index]:
            raise ConfigError(f"--seeds: {seed} is given twice")
    return list(seeds)
