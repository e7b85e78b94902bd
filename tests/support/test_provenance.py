"""What a result was made with, and the data it was made from."""

import sys
from dataclasses import replace

import numpy as np
import torch

import echo
from echo.data.audio import AudioArray
from echo.data.describe import describe
from echo.data.utterance import Utterance
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


def test_a_fingerprint_is_of_what_is_said_and_not_of_its_order():
    audio = AudioArray(np.zeros(16_000), 16_000, "a")
    one = Utterance("1", audio, "one", 1.0, speaker="x")
    two = Utterance("2", audio, "two", 2.0)
    found = describe([one, two])
    assert (found["utterances"], found["seconds"], found["speakers"]) == (2, 3.0, 1)
    assert describe([two, one]) == found
    assert describe([one, replace(two, text="too")])["fingerprint"] != found["fingerprint"]
    assert describe([two])["speakers"] is None
