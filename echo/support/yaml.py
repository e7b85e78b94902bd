"""YAML of plain values: no Python objects, and no aliases that unfold into gigabytes."""

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from echo.support.errors import ConfigError
from echo.support.files import refuse_pipe, replace_text

TEXTS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge", "tag:yaml.org,2002:value")
MAX_VALUES = 100_000  # in a text, with its aliases unfolded


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses keys that are given twice or are not text, and aliases
    that contain themselves or unfold to too many values ("billion laughs"), before it makes
    objects."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.sizes: dict[int, int] = {}  # the number of values in each node, by its id

    def compose_node(self, parent: Any, index: Any) -> Any:
        alias = self.check_event(yaml.AliasEvent)
        node: Any = super().compose_node(parent, index)
        if alias:
            if id(node) not in self.sizes:
                raise yaml.YAMLError("an alias contains itself")
            return node
        size = 1
        if isinstance(node, yaml.SequenceNode):
            size += sum(self.sizes[id(child)] for child in node.value)
        elif isinstance(node, yaml.MappingNode):
            size += sum(self.sizes[id(child)] for pair in node.value for child in pair)
            check_keys([key for key, _ in node.value])
        if size > MAX_VALUES:
            raise yaml.YAMLError(f"its aliases unfold to more than {MAX_VALUES} values")
        self.sizes[id(node)] = size
        return node

    def construct_integer(self, node: Any) -> int:
        number = self.construct_yaml_int(node)
        if number.bit_length() > 64:  # Python refuses to print very large ones
            raise yaml.YAMLError("a whole number has more than 64 bits")
        return number


def check_keys(keys: list[yaml.Node]) -> None:
    """Raises a YAMLError that names the line if a mapping has a key twice, or one that YAML does
    not read as text: `no` would be a data set by the name of False."""
    seen = set()
    for key in keys:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.YAMLError(f"line {line} has a list or a mapping as a key")
        if key.tag not in TEXTS:
            raise yaml.YAMLError(
                f"line {line} has the key {key.value or 'null'}, which is not text in YAML: put it "
                "in quotes"
            )
        if key.value in seen:
            raise yaml.YAMLError(f"line {line} has the key {key.value!r} a second time")
        seen.add(key.value)


Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_integer)


def load(text: str) -> Any:
    """Reads one document. ValueError, in one line, says that it is not YAML of plain values."""
    try:
        return yaml.load(text, Loader)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except Exception as error:  # PyYAML raises any kind for a bad date or `!!int x`
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None


def find_config(path: str | Path) -> Path:
    """Returns the file itself, or else one that comes with Echo: `configs/train.yaml` is beside the
    package in a checkout, and inside it when installed."""
    package = Path(__file__).parents[1]
    places = (Path(path), package / path, package.parent / path)
    return next((place for place in places if place.is_file()), Path(path))


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Reads a YAML file that holds a mapping; see `find_config` for where."""
    path = find_config(path)
    try:
        refuse_pipe(path)
        content = load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ConfigError(f"{path}: is not YAML ({error})") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: holds {reprlib.repr(content)}, but must hold settings, as key: value"
        )
    return content


def save_yaml(content: Mapping[str, Any], path: Path) -> None:
    """Writes a mapping in its own order."""
    replace_text(path, dump(content))


def dump(content: Mapping[str, Any]) -> str:
    """Returns a mapping in its own order as YAML."""
    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}"""
    if not isinstance(config, Mapping) or not config:
        return {prefix: config}
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return found
