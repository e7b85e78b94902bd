"""Settings of several models, and where they differ."""

from collections.abc import Mapping
from typing import Any

import yaml

from echo.support.yaml import flatten

MISSING = "—"


def differing(configs: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The settings that are not the same for all models, by key and then by model."""
    flat = {m: {k: inline(v) for k, v in flatten(c).items()} for m, c in configs.items()}
    keys = dict.fromkeys(key for settings in flat.values() for key in settings)
    rows = {
        key: {model: settings.get(key, MISSING) for model, settings in flat.items()} for key in keys
    }
    return {key: values for key, values in rows.items() if len(set(values.values())) > 1}


def inline(value: Any) -> str:
    """A value in one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("...\n").strip()
