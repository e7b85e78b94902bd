"""Fixtures for every test."""

import gc
import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

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


@pytest.fixture(autouse=True)
def seed() -> None:
    """Makes every test draw the same numbers, alone or among others."""
    torch.manual_seed(0)
