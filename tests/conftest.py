"""Fixtures for every test."""

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.browser import Opened

# The same examples every time, and none that fails because the machine is busy.
settings.register_profile(
    "echo", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("echo")


@pytest.fixture(scope="module", autouse=True)
def quick_collection() -> None:
    """Lets `gc.collect()` pass over what is imported by now, which would take it a quarter of a
    second: a test of memory calls it many times."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real recordings and reference numbers, which is no part of the project."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("ECHO_SHARED", default))
    if not folder.is_dir():
        pytest.skip(f"needs the shared data: no folder {folder} (set ECHO_SHARED)")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("needs chromium: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the dev extra")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Opened]]:
    """Opens a page from disk in a context of its own."""
    contexts = []

    def at(path: Path, *arguments: Any) -> Opened:
        one = Opened(browser, path, *arguments)
        contexts.append(one.context)
        return one

    yield at
    for context in contexts:
        context.close()


@pytest.fixture(autouse=True)
def seed() -> None:
    """Makes every test draw the same numbers, alone or among others."""
    torch.manual_seed(0)
