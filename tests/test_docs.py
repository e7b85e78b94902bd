"""The documentation: nothing is left out of its generated pages, and what it shows is right."""

import dataclasses
import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

import echo
from echo.attention.forms import settings_classes
from echo.cli import app
from echo.config import RunConfig
from echo.pilot.contenders import PilotSettings
from echo.support.settings import apply_overrides, build, keys

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SENTENCE = re.compile(r"[A-Z].*\w.*\.")
# What a pilot's config holds beside a run's settings.
PILOT = ("models", "baseline", "budget", "turn")


@pytest.fixture(scope="module")
def reference():
    """The module that fills the pages when the site is built."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def described(page):
    """What a page of definitions says by name: type and default, and a sentence."""
    found = re.findall(r"^`([^`]+)` ?(.*)\n:   (.*)$", page, re.MULTILINE)
    return {name: (about, said) for name, about, said in found}


def test_every_setting_of_a_run_and_a_pilot_is_on_the_page(reference):
    for page, cls in (
        (reference.run_settings(), RunConfig),
        (reference.pilot_settings(), PilotSettings),
    ):
        found = described(page)
        assert set(keys(cls, "")) <= set(found)
        assert [key for key, (_, said) in found.items() if not SENTENCE.fullmatch(said)] == []
    found = described(reference.run_settings())
    assert found["train.learning_rate"][0] == "number (0 or more), default `0.0015`"
    assert found["seed"][0] == "whole number (from 0 to 4294967295), default `1`"
    assert found["data.task"][0] == '`"transcribe"` or `"translate"` or `null`, default `null`'
    assert found["data.train[].weight"][0] == "number (more than 0 and at most 1000), default `1.0`"
    assert found["lora"][0] == "mapping or `null`, default `null`, see [`lora`](#lora)"


def test_every_setting_of_every_form_is_on_the_page(reference):
    shared, *parts = re.split(r"^### `", reference.form_settings(), flags=re.MULTILINE)
    sections = dict(part.split("`", 1) for part in parts)
    for name, cls in settings_classes().items():
        if name == "plain":  # has no settings
            continue
        own, common = described(sections[name]), described(shared)
        for field in dataclasses.fields(cls):
            if field.name != "form":
                about, said = own.get(field.name) or common[field.name]
                assert SENTENCE.fullmatch(said), field.name
                assert about.endswith(f", default `{json.dumps(field.default)}`")


def leaves(command, name="echo-asr"):
    if not getattr(command, "commands", None):
        yield name, command
    for each, inner in getattr(command, "commands", {}).items():
        yield from leaves(inner, f"{name} {each}")


def test_every_command_and_option_is_on_the_page(reference):
    sections = re.split(r"^## `", reference.commands(), flags=re.MULTILINE)
    sections = dict(section.split("`", 1) for section in sections if section)
    found = dict(leaves(get_command(app)))
    assert set(sections) == set(found)
    for name, command in found.items():
        lines = described(sections[name])
        assert len(lines) == len(command.params)
        assert [said for _, said in lines.values()] == [p.help for p in command.params]
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert any(parameter.opts[0] in label.split() for label in lines), parameter.opts


def test_every_public_name_is_on_the_page():
    page = (ROOT / "docs" / "python_api.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^::: echo\.(\w+)$", page, re.MULTILINE)) == {
        name for name in echo.__all__ if name != "__version__"
    }


def test_links_between_pages_lead_somewhere():
    links = [
        (page, target)
        for page in PAGES
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
        if "://" not in target and not target.startswith("#")
    ]
    assert len(links) > 30
    broken = [(p.name, t) for p, t in links if not (p.parent / t.partition("#")[0]).exists()]
    assert broken == []


def documented_commands():
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if found := re.search(r"(?:^|&& )echo-asr (.*)|-m echo (.*)", line):
                    yield pytest.param(found[1] or found[2], id=f"{page.stem}: {line[:60]}")


@pytest.mark.parametrize("line", documented_commands())
def test_documented_commands_can_be_parsed(line, monkeypatch):
    """Their options exist, and so do the settings and configs that they name."""
    monkeypatch.chdir(ROOT)
    command = get_command(app)
    arguments = [
        word for word in shlex.split(line.partition(" | ")[0], comments=True) if "$" not in word
    ]
    while inner := getattr(command, "commands", None):
        command = inner[arguments.pop(0)]
    context = command.make_context(command.name, arguments)
    values = context.params
    if command.name in ("train", "resume", "pilot"):
        given = [each for each in values["overrides"] or [] if each.upper() != each]  # not SETTING
        content = apply_overrides({}, given)
        build(RunConfig, {k: v for k, v in content.items() if k not in PILOT}, "the page")
    if isinstance(config := values.get("config"), Path):
        assert config.exists()


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_the_page_of_results_is_short():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert len(page.splitlines()) <= 150


def test_every_figure_of_the_results_is_in_the_log():
    """So that a figure measured anew is changed in both."""
    results, log = (
        set(re.findall(r"\d(?:[\d,.]*\d)?", (ROOT / "docs" / name).read_text(encoding="utf-8")))
        for name in ("results.md", "log.md")
    )
    assert results <= log
