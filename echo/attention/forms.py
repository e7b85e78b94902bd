"""Registers the forms by name, and reads the settings of each layer from a config."""

import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from echo.attention.adaptive import AdaptiveAttention
from echo.attention.base import FocusedAttention
from echo.attention.convolution import ConvolutionAttention
from echo.attention.focus import FocusAttention
from echo.attention.hybrid import HybridAttention, ScaledAttention
from echo.attention.settings import (
    DEFAULT_FORM,
    STACK_FORMS,
    AttentionSettings,
    FocusedSettings,
    PlainSettings,
)
from echo.support.errors import ConfigError
from echo.support.settings import build

FORMS: dict[str, type[FocusedAttention]] = {}


def register_form(form: type[FocusedAttention]) -> None:
    """Registers a form for configs and checkpoints, under the name in its settings class.

    Raises:
        ValueError: the name is taken, or is not lower-case letters, digits and underscores.
    """
    name = form.settings_class.form
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise ValueError(
            f"{form.__name__}: the form's name is {name!r}, but must be lower-case letters, digits "
            "and underscores"
        )
    if name in settings_classes():
        raise ValueError(f"{form.__name__}: there is already a form {name!r}")
    FORMS[name] = form


def settings_classes() -> dict[str, type[AttentionSettings]]:
    """Returns the settings class of every form, including Whisper's own attention."""
    focused = {name: form.settings_class for name, form in FORMS.items()}
    return {PlainSettings.form: PlainSettings, **focused}


register_form(HybridAttention)
register_form(ScaledAttention)
register_form(FocusAttention)
register_form(AdaptiveAttention)
register_form(ConvolutionAttention)


def resolve_attention(
    attention: Mapping[str, Any] | None, layers: Mapping[str, int]
) -> dict[str, list[AttentionSettings]]:
    """Returns the settings of each layer of each stack.

    Args:
        attention: the value of each stack, see `resolve_layers`; by default `STACK_FORMS`.
        layers: the number of layers of each stack.

    Raises:
        ValueError: there is no such stack, or a value is not allowed.
    """
    for key in attention or {}:
        if key not in STACK_FORMS:
            raise ValueError(f"attention has no stack {key!r}; it has: {', '.join(STACK_FORMS)}")
    stacks = {
        stack: resolve_layers(value, layers[stack], stack)
        for stack, value in {**STACK_FORMS, **(attention or {})}.items()
    }
    if any(isinstance(s, FocusedSettings) and s.global_stride > 1 for s in stacks["decoder"]):
        raise ValueError("attention.decoder has a global_stride, which only an encoder can have")
    return stacks


def resolve_layers(value: Any, layers: int, stack: str) -> list[AttentionSettings]:
    """Returns the settings of each layer of a stack.

    Args:
        value: one entry for all layers, or a list with one entry per layer; see `read_settings`.
        layers: the number of layers.
        stack: "encoder" or "decoder", for error messages.

    Raises:
        ValueError: the list's length is not the number of layers, or an entry is not allowed.
    """
    place = f"attention.{stack}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) != layers:
            raise ValueError(f"{place} lists {len(value)} blocks, but there are {layers} layers")
        return [read_settings(entry, f"{place}[{i}]") for i, entry in enumerate(value)]
    return [read_settings(value, place)] * layers


def read_settings(value: Any, place: str) -> AttentionSettings:
    """Reads one block's settings from a form's name, or from a mapping of its fields.

    A field of another form is ignored if it has that form's default value. This is allowed because
    configs are merged, and because earlier versions allowed it.

    Args:
        value: the value in the config.
        place: its key in the config, for error messages.

    Raises:
        ValueError: the form or a field is unknown, or a field's value is not allowed.
    """
    if isinstance(value, str):
        value = {"form": value}
    if not isinstance(value, Mapping):
        raise ValueError(
            f"{place} is {reprlib.repr(value)}, but must be a form's name or a mapping of settings"
        )
    classes = settings_classes()
    form = value.get("form", DEFAULT_FORM)
    if not isinstance(form, str) or form not in classes:
        raise ValueError(
            f"{place}: form is {reprlib.repr(form)}, but must be one of: {', '.join(classes)}"
        )
    content = dict(value)
    for key in value.keys() - defaults(classes[form]).keys():
        others = {name: d[key] for name, c in classes.items() if key in (d := defaults(c))}
        if content[key] in others.values():
            del content[key]
        elif others:
            raise ValueError(f"{place}: {key} belongs to {', '.join(others)}, not to {form}")
    try:
        return build(classes[form], content, place)
    except ConfigError as error:
        raise ValueError(str(error)) from None


def defaults(kind: type[AttentionSettings]) -> dict[Any, Any]:
    """Returns the default of each field, by name."""
    return {field.name: field.default for field in fields(kind)}
