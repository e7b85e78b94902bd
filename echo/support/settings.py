"""Settings: dataclasses filled from mappings and `key=value` overrides, and strictly checked.

Bounds are written beside the types: `Annotated[float, Range(0, 1)]`.
"""

import dataclasses
import json
import math
import reprlib
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from echo.support import yaml as safe_yaml
from echo.support.errors import ConfigError
from echo.support.text import brief
from echo.support.yaml import read_yaml

COMMAND_LINE = "command line"  # as errors call it
LARGEST = 2**63 - 1  # no tensor or count is larger
GIVEN = "_given"  # the attribute with the names of the fields that `given` returns


@dataclass(frozen=True)
class Range:
    """A finite number from `low` to `high`, both included, unless it must be `above` its low."""

    low: float
    high: float = math.inf
    above: bool = False

    def allows(self, value: float) -> bool:
        if not abs(value) <= LARGEST:  # false for nan as well
            return False
        return self.low <= value <= self.high and not (self.above and value == self.low)

    def __str__(self) -> str:
        low, high = f"{self.low:.10g}", f"{self.high:.10g}"
        if math.isinf(self.high):
            return f"more than {low}" if self.above else f"{low} or more"
        if self.above:
            return f"more than {low} and at most {high}"
        return f"from {low} to {high}"


@dataclass(frozen=True)
class Length:
    """A list of `least` to `most` entries."""

    least: int
    most: float = math.inf

    def allows(self, value: list[Any]) -> bool:
        return self.least <= len(value) <= self.most

    def __str__(self) -> str:
        return f"a list of {self.least}{' or more' if self.most > self.least else ''}"


@dataclass(frozen=True)
class LowAndHigh:
    """A list of two numbers, of which the second is not lower."""

    def allows(self, value: list[Any]) -> bool:
        return len(value) == 2 and value[0] <= value[1]

    def __str__(self) -> str:
        return "a list of the lowest and the highest"


Count = Annotated[int, Range(0)]
Positive = Annotated[int, Range(1)]
Amount = Annotated[float, Range(0)]
PositiveAmount = Annotated[float, Range(0, above=True)]
Share = Annotated[float, Range(0, 1)]


Settings = TypeVar("Settings")


def read_override(override: str) -> tuple[dict[str, Any], str]:
    """Reads one argument that changes settings: a dotted key, `train.max_steps=100`, whose value is
    read as YAML, or the name of a YAML file, `configs/attention/focus.yaml`.

    Returns the settings that it changes, and where errors say that they stand. It is a ConfigError
    if it is neither, or cannot be read.
    """
    if "=" not in override and override.endswith(".yaml"):
        return read_yaml(override), override
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"{brief(override)!r} is neither key=value nor a .yaml file")
    try:
        value = safe_yaml.load(text)
    except ValueError as error:
        raise ConfigError(
            f"{brief(key)}: {reprlib.repr(text)} is not a YAML value ({error})"
        ) from None
    for part in reversed(key.split(".")):
        value = {part: value}
    return value, COMMAND_LINE


def apply_overrides(content: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Applies overrides to settings; later ones win; see `read_override`."""
    result = dict(content)
    for override in overrides:
        result = merge(result, read_override(override)[0])
    return result


def build_with_overrides(
    cls: type[Settings], content: Mapping[str, Any], source: str, overrides: Sequence[str]
) -> Settings:
    """Fills a settings dataclass from a mapping and overrides of it. Each override is checked by
    itself first, so that an error says where the wrong value stands.

    Raises:
        ConfigError: naming the key at fault, and `source`, the command line, or another file.
    """
    for override in overrides:
        layer, place = read_override(override)
        build(cls, layer, place)
        content = merge(content, layer)
    return build(cls, content, source)


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merges `changes` into `base`, mappings key by key."""
    result = dict(base)
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            value = merge(result[key], value)
        result[key] = value
    return result


def build(cls: type[Settings], content: Any, source: str, key: str = "") -> Settings:
    """Fills a settings dataclass from a mapping, checking every key, type and bound.

    What holds of several fields together a class checks in `__post_init__`, with a ValueError.

    Raises:
        ConfigError: naming `source` and the key at fault.
    """
    if content is None:
        content = {}
    if not isinstance(content, Mapping):
        raise misfit(source, key or "the config", content, "a mapping")
    kinds = get_type_hints(cls, include_extras=True)
    known = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    values = {}
    for name, value in content.items():
        path = prefixed(key, str(name))
        if name not in known:
            raise ConfigError(f"{source}: unknown key {brief(path)!r}; {hint(cls, str(name), key)}")
        values[name] = convert(kinds[name], value, source, path)
    for f in dataclasses.fields(cls):  # type: ignore[arg-type]
        if f.name not in values and f.default is f.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{source}: {key} lacks {f.name!r}")
    try:
        built = cls(**values)
    except ValueError as error:
        raise ConfigError(f"{source}: {key}{': ' if key else ''}{error}") from None
    object.__setattr__(built, GIVEN, frozenset(values))  # not a field: it is no setting
    return built


def check(settings: Any, source: str) -> None:
    """Checks the values of a settings dataclass that was made in Python; see `build`."""
    build(type(settings), to_dict(settings), source)


def given(settings: Any) -> frozenset[str]:
    """Returns the fields of a settings dataclass that were given: those in the mapping it was built
    from or, if it was made in Python, those that are not at their defaults."""
    names: frozenset[str] | None = getattr(settings, GIVEN, None)
    if names is not None:
        return names
    return frozenset(
        f.name
        for f in dataclasses.fields(settings)
        if getattr(settings, f.name)
        != (f.default if f.default_factory is dataclasses.MISSING else f.default_factory())
    )


def resolved(settings: Settings) -> Settings:
    """Returns the settings marked as written by a program, not given by a user; see `given`."""
    fields = dataclasses.fields(settings)  # type: ignore[arg-type]
    inner = {f.name: getattr(settings, f.name) for f in fields}
    changes = {name: resolved(v) for name, v in inner.items() if dataclasses.is_dataclass(v)}
    return dataclasses.replace(settings, **changes)  # type: ignore[type-var]


def hint(cls: type, name: str, key: str) -> str:
    """Returns what a user may have meant by an unknown key: the field of that name further down, or
    the one whose name is closest."""
    below = list(keys(cls, key))
    meant = [known for known in below if known.split(".")[-1] == name]
    beside = [f.name for f in dataclasses.fields(cls)]
    meant = meant or [prefixed(key, near) for near in get_close_matches(name, beside, 1)]
    if meant:
        return f"did you mean {' or '.join(meant)}?"
    return f"there are: {', '.join(beside)}"


def keys(cls: type, key: str) -> Iterator[str]:
    """Returns the dotted keys of a settings dataclass and of those within it."""
    for name, kind in get_type_hints(cls).items():
        path = prefixed(key, name)
        yield path
        for inner in (kind, *get_args(kind)):
            if isinstance(inner, type) and dataclasses.is_dataclass(inner):
                yield from keys(inner, path)


def prefixed(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def convert(kind: Any, value: Any, source: str, key: str) -> Any:
    """Checks one value against its field's type and bounds; whole numbers may stand for floats."""
    if get_origin(kind) is Annotated:
        plain, *bounds = get_args(kind)
        converted = convert(plain, value, source, key)
        for bound in bounds:
            if not bound.allows(converted):
                raise misfit(source, key, value, bound)
        return converted
    if dataclasses.is_dataclass(kind):
        # An empty section of a file changes nothing; `train=` would undo all that files say of it.
        if value is None and source == COMMAND_LINE:
            raise misfit(source, key, value, "a mapping")
        return build(kind, value, source, key)  # type: ignore[arg-type]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and types.NoneType in arguments:
            return None
        return convert_union([a for a in arguments if a is not types.NoneType], value, source, key)
    if origin is Literal:
        if value in arguments:
            return value
        raise misfit(source, key, value, f"one of: {', '.join(map(str, arguments))}")
    if origin is list and isinstance(value, list):
        return [convert(arguments[0], v, source, f"{key}[{i}]") for i, v in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        entry = arguments[1]
        if entry is Any:
            return value
        return {k: convert(entry, v, source, prefixed(key, str(k))) for k, v in value.items()}
    is_bool = isinstance(value, bool)  # which Python takes for an int
    if kind is float and isinstance(value, str | int) and not is_bool:
        with suppress(ValueError, OverflowError):  # YAML 1.1 reads 1e-3 as a string
            return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and not (kind is int and is_bool):
        return value
    wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(
        kind, "a list" if origin is list else "a mapping"
    )
    raise misfit(source, key, value, wanted)


def misfit(source: str, key: str, value: Any, wanted: object) -> ConfigError:
    return ConfigError(f"{source}: {key} is {reprlib.repr(value)}, but must be {wanted}")


def convert_union(kinds: list[Any], value: Any, source: str, key: str) -> Any:
    """Converts a value to the first of several types that accepts it."""
    for kind in kinds:  # errors within a list or mapping name the entry
        if isinstance(value, list) and get_origin(kind) is list:
            return convert(kind, value, source, key)
        plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
        takes_keys = dataclasses.is_dataclass(kind) or get_origin(plain) is dict
        if isinstance(value, Mapping) and takes_keys:
            return convert(kind, value, source, key)
    problems = []
    for kind in kinds:
        try:
            return convert(kind, value, source, key)
        except ConfigError as error:
            problems.append(str(error))
    head, *others = problems
    raise ConfigError(" or ".join([head, *(o.partition("must be ")[2] for o in others)]))


def to_dict(config: Any) -> dict[str, Any]:
    """Returns a settings dataclass as plain YAML values, with all defaults filled in."""
    return dataclasses.asdict(config)


def flat(config: Any, prefix: str = "") -> dict[str, str | float]:
    """Returns the fields of a settings dataclass and of those within it by their dotted keys.
    Numbers and text are unchanged, everything else is JSON."""
    found: dict[str, str | float] = {}
    for each in dataclasses.fields(config):
        key, value = f"{prefix}{each.name}", getattr(config, each.name)
        if dataclasses.is_dataclass(value):
            found |= flat(value, f"{key}.")
        elif isinstance(value, bool) or not isinstance(value, str | int | float):
            found[key] = json.dumps(value, default=to_dict)
        else:
            found[key] = value
    return found
