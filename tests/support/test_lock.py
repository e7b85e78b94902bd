"""One process at a time works in a folder, and what has died holds nobody up."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from echo.config import DataSettings, RunConfig
from echo.pilot.contenders import read_pilot
from echo.pilot.run import run_pilot
from echo.support.errors import EchoError
from echo.support.lock import LOCK_FILE, locked
from echo.train.run import resume_run, start_run

HOLD = """
import sys
from pathlib import Path
from pathlib import Path
from echo.support.lock import locked
with locked(Path(sys.argv[1])):
    print("in", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process in the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"in\n"
    yield process
    process.kill()
    process.communicate()


def test_two_trainings_do_not_mix_in_one_folder(holder, tmp_path):
    """This is known before any data are read: there are none."""
    run = tmp_path / "run"
    config = RunConfig(data=DataSettings(train="none.jsonl", eval="none.jsonl"))
    pilot = read_pilot({"data": {"train": "none", "eval": "none"}, "models": {"a": {}}}, "test")
    for work in (
        lambda: start_run(config, run),
        lambda: resume_run(run),
        lambda: run_pilot(pilot, run),
    ):
        with pytest.raises(EchoError) as error:
            work()
        assert str(error.value) == (
            f"{run}: another process is using this folder (process {holder.pid}); wait until it "
            "has ended, or choose another folder"
        )


@pytest.mark.parametrize("killed", [True, False])
def test_the_lock_ends_with_its_process(holder, tmp_path, killed):
    run = tmp_path / "run"
    if killed:
        holder.kill()
    holder.communicate()
    assert run.exists() == killed  # with the stale file, or not at all
    with locked(run):
        assert (run / LOCK_FILE).exists()
        (run / "mine").touch()
    assert [path.name for path in run.iterdir()] == ["mine"]


@pytest.mark.parametrize("make", [Path.symlink_to, Path.hardlink_to], ids=["link", "second name"])
def test_a_lock_that_is_another_file_leaves_it_as_it_was(tmp_path, make):
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    (tmp_path / "run").mkdir()
    make(tmp_path / "run" / LOCK_FILE, precious)
    with (
        pytest.raises(EchoError, match=r"\.lock: is (a link, )?not Echo's lock"),
        locked(tmp_path / "run"),
    ):
        pass
    assert precious.read_text() == "mine"
    assert (tmp_path / "run" / LOCK_FILE).exists()


def test_a_lock_that_a_crash_has_left_is_taken_over(tmp_path):
    (tmp_path / LOCK_FILE).write_text("4711\n")
    with locked(tmp_path):
        assert (tmp_path / LOCK_FILE).read_text() == f"{os.getpid()}\n"
    assert not (tmp_path / LOCK_FILE).exists()


def test_a_pipe_is_no_lock(tmp_path):
    os.mkfifo(tmp_path / LOCK_FILE)
    with pytest.raises(EchoError, match="not Echo's lock"), locked(tmp_path):
        pass
