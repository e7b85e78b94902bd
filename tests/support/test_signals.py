"""Signals to the workers of a run."""

import multiprocessing
import signal
import subprocess
import time

import pytest

from echo.support.signals import StopRequest, leave_signals_to_parent, signals_held


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


def work_late(ready, go):
    ready.set()
    assert go.wait(10)
    work(ready)


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_a_worker_that_has_only_just_started_obeys_its_parent_alone(name):
    context = multiprocessing.get_context("fork")
    ready, go = context.Event(), context.Event()
    process = context.Process(target=work_late, args=(ready, go), daemon=True)
    with signals_held():
        process.start()
    assert ready.wait(10)
    subprocess.run(["sh", "-c", f"kill -{name} {process.pid}"], check=True)
    ready.clear()
    go.set()
    assert ready.wait(10)
    process.join(0.5)
    assert process.is_alive()
    process.terminate()
    process.join(10)
    assert process.exitcode == 0


def test_a_signal_that_was_held_arrives_afterwards():
    with StopRequest() as request:
        with signals_held():
            signal.raise_signal(signal.SIGTERM)  # to this thread: kill may choose another
            assert request.number == 0
        assert request.number == signal.SIGTERM
