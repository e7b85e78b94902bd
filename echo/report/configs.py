"""Settings of several models, and where they differ."""

from collections.abc import Mapping
from typing import Any

import yaml

MISSING = "—"


def differing(configs: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The settings that are not the same for all models, by key and then by model."""
    flat = {model: flatten(config) for model, config in configs.items()}
    keys = dict.fromkeys(key for settings in flat.values() for key in settings)
    rows = {
        key: {model: settings.get(key, MISSING) for model, settings in flat.items()} for key in keys
    }
    return {key: values for key, values in rows.items() if len(set(values.values())) > 1}


def flatten(config: Any, prefix: str = "") -> dict[str, str]:
    """{"a": {"b": 1}} -> {"a.b": "1"}"""
    if not isinstance(config, Mapping) or not config:
        return {prefix: inline(config)}
    found: dict[str, str] = {}
    for key, value in config.items():
        found |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def inline(value: Any) -> str:
    """A value in one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("...\n").strip()


def as_yaml(config: Any) -> str:
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
