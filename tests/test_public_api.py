"""What `import echo` offers."""

import ast
import re
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import echo
from echo.support.yaml import save_yaml
from tests.train.test_loop import TINY


def test_every_public_name_is_found():
    for name in echo.__all__:
        assert name in dir(echo)
        assert getattr(echo, name) is not None
        # A subpackage of that name would replace it once it is imported.
        assert find_spec(f"echo.{name}") is None
    with pytest.raises(AttributeError, match="module 'echo' has no attribute 'nothing'"):
        _ = echo.nothing


def test_type_checkers_see_what_is_imported():
    names = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(ast.parse(Path(echo.__file__).read_text()))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("echo.")
        for alias in node.names
    }
    for name, (module, own) in names.items():
        assert getattr(echo, name) is getattr(import_module(module), own)
    assert {*names, "__version__"} == set(echo.__all__)
    assert Path(echo.__file__).with_name("py.typed").exists()


@pytest.mark.slow
def test_the_documented_script_runs(request, shared, tmp_path):
    """On ten short utterances of a real speaker, with settings of a few steps."""
    data = shared / "data" / "librispeech"
    lines = (data / "train.jsonl").read_text().splitlines()
    for name, part in (("train", lines[:8]), ("dev", lines[8:10])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(part) + "\n")
        for line in part:
            file = re.search(r'"audio_filepath": "([^"]+)"', line)[1]
            (tmp_path / file).parent.mkdir(exist_ok=True)
            shutil.copyfile(data / file, tmp_path / file)
    shutil.copyfile(tmp_path / file, tmp_path / "talk.opus")
    settings = {**TINY, "model": {**TINY["model"], "max_seconds": 30, "max_tokens": 448}}
    settings["data"] = {"workers": 0}
    save_yaml(settings, tmp_path / "train.yaml")
    text = (request.config.rootpath / "docs" / "python_api.md").read_text()
    [script] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(script.splitlines()) < 25
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    first, second, *_ = done.stdout.splitlines()
    assert re.fullmatch(r"7 steps, WER \d+\.\d%", first)
    assert re.fullmatch(r"WER \d+\.\d%, \d+ x real time", second)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (
            lambda: echo.load_model("x", which="bset"),
            "the checkpoint is 'bset', but must",
        ),
        (lambda: echo.load_model("x", task="sing"), "task is 'sing', but must be one of"),
        (lambda: echo.load_model("x", language=5), "language is 5, but must be text"),
        (lambda: echo.read_source("x", echo.ReadOptions(on_error="rais")), "on_error is 'rais'"),
        (lambda: echo.evaluate_model(None, [], on_error="rais"), "on_error is 'rais'"),
        (lambda: echo.evaluate_model(None, [], echo.DecodeSettings(beams=0)), "beams is 0, but"),
        (lambda: echo.compare_models(["x", "y"], "", [], "z", on_error="rais"), "on_error is"),
        (
            lambda: echo.transcribe_recordings(None, ["x"], echo.TranscribeSettings(task="sing")),
            "task is 'sing'",
        ),
        (
            lambda: echo.transcribe_recordings(None, ["x"], echo.TranscribeSettings(batch_size=-1)),
            "batch_size is -1, but must be 1 or more",
        ),
        (lambda: echo.train_run(echo.RunConfig(seed=-1), "x"), "seed is -1, but must be from 0"),
    ],
)
def test_arguments_are_checked_before_anything_is_done(use, message):
    with pytest.raises(echo.ConfigError, match=message):
        use()
