"""Writes the pages of settings and commands while the site is built, from the code itself.

The site generator calls `define_env`; `settings.md` and `commands.md` then call its macros.
"""

import dataclasses
import inspect
import re
import types
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from echo.attention.forms import FORMS
from echo.attention.settings import FocusedSettings
from echo.cli import app
from echo.config import RunConfig
from echo.data.prepare.filter.rules import FilterSettings
from echo.pilot.contenders import PilotSettings
from echo.support.settings import Length, Range, prefixed, to_dict

NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false"}


ROOT = Path(__file__).parents[1]


def define_env(env: Any) -> None:
    """Registers the macros."""
    env.macro(file)
    env.macro(run_settings)
    env.macro(pilot_settings)
    env.macro(form_settings)
    env.macro(filter_settings)
    env.macro(commands)


def file(name: str) -> str:
    """A page that lies beside this folder, with its links as they are from within."""
    return (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")


def run_settings() -> str:
    """A section for each part of a run's config."""
    return "\n\n".join(sections(RunConfig))


def pilot_settings() -> str:
    """One list, with the budget's keys in it."""
    return definitions(rows(PilotSettings))


def filter_settings() -> str:
    """One list of the thresholds."""
    return definitions(rows(FilterSettings))


def form_settings() -> str:
    """One list of what all focused forms have, and one for what each adds or begins otherwise."""
    shared = [row for row in rows(FocusedSettings) if row[0] != "`form`"]
    parts = ["### Every focused form", definitions(shared)]
    for name, form in FORMS.items():
        own = [row for row in rows(form.settings_class) if row[0] != "`form`" and row not in shared]
        parts += [f"### `{name}`", summary(form), definitions(own)]
    return "\n\n".join(parts)


def sections(cls: type, key: str = "") -> Iterator[str]:
    """The settings of a class, then a section for each class within it."""
    if key:
        yield f"## `{key}`\n\n{summary(cls)}"
    yield definitions(rows(cls, key, deep=False))
    for name, kind in get_type_hints(cls).items():
        if inner := nested(kind):
            listed = "" if inner in (kind, *get_args(kind)) else "[]"
            yield from sections(inner, prefixed(key, name) + listed)


def rows(cls: type, key: str = "", deep: bool = True) -> Iterator[list[str]]:
    """Key, type, default and sentence of each setting; `deep` adds those of classes within."""
    kinds, said = get_type_hints(cls, include_extras=True), sentences(cls)
    for field in dataclasses.fields(cls):
        path, kind = prefixed(key, field.name), kinds[field.name]
        inner = nested(kind)
        default = "required" if is_required(field) else f"default {shown(default_of(field))}"
        if inner and not deep:
            see = f"see [`{path}`](#{path.replace('.', '')})"
            default = f"{default}, {see}" if default_of(field) is None else see
        yield [f"`{path}`", words(kind), default, said[field.name]]
        if inner and deep:
            yield from rows(inner, path)


def definitions(rows: Iterable[Sequence[str]]) -> str:
    """A list of what each row's last cell says of the others: unlike a table, it fits a phone."""
    terms = ((", ".join(filter(None, row[1:-1])), row) for row in rows)
    return "\n\n".join(f"{row[0]} {about}\n:   {row[-1]}" for about, row in terms)


def summary(cls: type) -> str:
    """The class's description, as one paragraph."""
    return " ".join((cls.__doc__ or "").split("\n\n")[0].split())


def sentences(cls: type) -> dict[str, str]:
    """The comment above each setting, or above the setting of that name in a base class."""
    said: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        comment: list[str] = []
        for line in inspect.getsource(base).splitlines():
            if found := re.fullmatch(r"    # (.*)", line):
                comment.append(found[1])
            elif found := re.match(r"    (\w+): ", line):
                said[found[1]] = " ".join(comment) or said.get(found[1], "")
                comment = []
            else:
                comment = []
    return said


def nested(kind: Any) -> type | None:
    """The settings class that a field holds, itself or in a list, if it holds one."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return kind
    return next((found for inner in get_args(kind) if (found := nested(inner))), None)


def words(kind: Any) -> str:
    """A field's type as a reader of YAML knows it."""
    if get_origin(kind) is Annotated:
        plain, *bounds = get_args(kind)
        limits = [f"{b}" for b in bounds if isinstance(b, Range | Length)]
        if get_origin(plain) is list:
            return words(plain)
        return f"{words(plain)} ({' '.join(limits)})"
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(words, arguments)))
    if origin is Literal:
        return " or ".join(map(shown, arguments))
    if origin is list:
        inner = words(arguments[0])
        return f"list of ({inner})" if " or " in inner else f"list of {inner}"
    if kind is types.NoneType:
        return "`null`"
    return NAMES.get(kind, "mapping")


def is_required(field: dataclasses.Field) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def default_of(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def shown(value: Any) -> str:
    """A value as YAML writes it."""
    if dataclasses.is_dataclass(value):
        return shown(to_dict(value))
    if isinstance(value, str):
        return f'`"{value}"`'
    if value is None or isinstance(value, bool):
        return f"`{str(value).lower() if value is not None else 'null'}`"
    return f"`{value}`"


def commands() -> str:
    """A section for each command: what it does, how it is called, arguments and options."""
    found = {f"echo-asr {name_of(each)}": each for each in app.registered_commands}
    for group in app.registered_groups:
        for each in group.typer_instance.registered_commands:
            found[f"echo-asr {group.name} {name_of(each)}"] = each
    return "\n\n".join(command(name, each.callback) for name, each in found.items())


def name_of(info: Any) -> str:
    return info.name or info.callback.__name__.replace("_", "-")


def command(name: str, function: Any) -> str:
    arguments, lines = [], []
    kinds = get_type_hints(function, include_extras=True)
    for parameter in inspect.signature(function).parameters.values():
        if kinds[parameter.name] is typer.Context:
            continue
        kind, info = get_args(kinds[parameter.name])
        if isinstance(info, typer.models.ArgumentInfo):
            label = info.metavar or parameter.name.upper() + "..." * (get_origin(kind) is list)
            arguments.append(label)
        else:
            # Typer keeps the first name that an option is given where defaults used to stand.
            given = [n for n in (info.default, *(info.param_decls or ())) if isinstance(n, str)]
            names = given or [f"--{parameter.name.replace('_', '-')}"]
            label = ", ".join(names) + ("" if kind is bool else f" {value_of(info, kind)}")
        lines.append([f"`{label}`", default_argument(parameter.default), info.help])
    usage = " ".join([name, *arguments, "[OPTIONS]"])
    said = inspect.cleandoc(function.__doc__)
    return "\n\n".join([f"## `{name}`", said, f"```text\n{usage}\n```", definitions(lines)])


def value_of(info: Any, kind: Any) -> str:
    """What stands after an option's name."""
    inner = [k for k in get_args(kind) if k is not types.NoneType] or [kind]
    if get_origin(kind) is Literal or get_origin(inner[0]) is Literal:
        return "|".join(get_args(kind if get_origin(kind) is Literal else inner[0]))
    names = {int: "N", float: "NUMBER", Path: "PATH"}
    return info.metavar or names.get(inner[0], "TEXT")


def default_argument(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return "required"
    return "" if value is None or value is False else f"default `{value}`"
