"""Signals to the workers of a run."""

import multiprocessing
import subprocess
import time

import pytest

from echo.support.signals import leave_signals_to_parent


def work(ready):
    leave_signals_to_parent(0)
    ready.set()
    time.sleep(60)


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_a_worker_obeys_its_parent_alone(name):
    """Or the parent, when it ends, would wait for it for ever."""
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=work, args=(ready,), daemon=True)
    process.start()
    assert ready.wait(10)
    subprocess.run(["sh", "-c", f"kill -{name} {process.pid}"], check=True)
    process.join(0.5)
    assert process.is_alive()
    process.terminate()
    process.join(10)
    assert process.exitcode == 0
