"""What a result was made with, and the data it was made from."""

import subprocess
import sys
from dataclasses import replace
from shutil import which

import numpy as np
import pytest
import torch

import echo
from echo.data.audio import AudioArray
from echo.data.fingerprint import describe
from echo.data.utterance import Utterance
from echo.support import provenance
from echo.support.provenance import read_provenance, write_provenance


def test_the_command_versions_and_hardware_are_kept(tmp_path, monkeypatch):
    assert read_provenance(tmp_path) == {}
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/echo-asr", "train", "my config.yaml"])
    write_provenance(tmp_path, data={"training": {"utterances": 3}})
    found = read_provenance(tmp_path)
    assert found["command"] == "echo-asr train 'my config.yaml'"
    assert found["versions"]["echo-asr"] == echo.__version__
    assert found["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert found["hardware"]["cores"] >= 1
    assert found["data"] == {"training": {"utterances": 3}}
    monkeypatch.setattr(sys, "argv", ["my_program.py"])
    write_provenance(tmp_path)
    assert read_provenance(tmp_path)["command"] is None


@pytest.mark.skipif(which("git") is None, reason="needs git")
def test_the_commit_is_that_of_the_checkout_and_says_whether_it_was_changed(tmp_path, monkeypatch):
    def git(*arguments):
        author = ["-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
        done = subprocess.run(["git", *author, *arguments], capture_output=True, check=True)
        return done.stdout.decode().strip()

    code = tmp_path / "echo" / "support" / "provenance.py"
    code.parent.mkdir(parents=True)
    code.write_text("one")
    monkeypatch.setattr(provenance, "__file__", str(code))
    assert provenance.commit() is None
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    git("tag", "-a", "v1", "-m", "a release")
    assert provenance.commit() == git("rev-parse", "HEAD")
    code.write_text("two")
    assert provenance.commit() == git("rev-parse", "HEAD") + "-dirty"
    monkeypatch.setenv("PATH", "")
    assert provenance.commit() is None


def test_a_fingerprint_is_of_what_is_said_and_not_of_its_order():
    audio = AudioArray(np.zeros(16_000), 16_000, "a")
    one = Utterance("1", audio, "one", 1.0, speaker="x")
    two = Utterance("2", audio, "two", 2.0)
    found = describe([one, two])
    assert (found["utterances"], found["seconds"], found["speakers"]) == (2, 3.0, 1)
    assert describe([two, one]) == found
    assert describe([one, replace(two, text="too")])["fingerprint"] != found["fingerprint"]
    assert describe([two])["speakers"] is None
