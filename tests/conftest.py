"""Fixtures for every test."""

import gc
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.browser import Opened

# Before torch is imported, which only the processes that run tests do: one thread for each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples every time, and none that fails because the machine is busy.
settings.register_profile(
    "echo", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("echo")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Runs the tests of a single file in this process: starting others would take longer."""
    named = [Path(argument.split("::")[0]) for argument in config.args]
    return 0 if len({*named}) == 1 and named[0].is_file() else None


@pytest.fixture(scope="module", autouse=True)
def quick_collection() -> None:
    """Lets `gc.collect()` pass over what is imported by now, which would take it a quarter of a
    second: a test of memory calls it many times."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def heeded_signals() -> None:
    """Lets signals through that whoever started the tests had ignored, as nohup does."""
    for name in ("SIGHUP", "SIGINT", "SIGTERM"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            default = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
            signal.signal(number, default)


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
    import torch

    torch.manual_seed(0)
