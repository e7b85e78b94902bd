"""What a run has recorded is checked where the run goes on."""

import json

import pytest

from echo.support.errors import EchoError
from echo.train.recorder import read_metrics
from echo.train.trackers import is_state

GOOD = {"kind": "eval", "step": 3, "wer": 0.5, "seconds": 1.0}


@pytest.mark.parametrize(
    "change",
    [{"wer": "0.5"}, {"wer": None}, {"step": -1}, {"step": True}, {"kind": 1}, {"wer_own": []}],
)
def test_a_damaged_event_is_named(tmp_path, change):
    text = "".join(json.dumps(event) + "\n" for event in (GOOD, {**GOOD, **change}))
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(EchoError, match=r"metrics\.jsonl:2: is not an event of a run"):
        read_metrics(tmp_path)


def test_an_evaluation_has_a_wer(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"kind": "eval", "step": 1}\n')
    with pytest.raises(EchoError, match="is not an event"):
        read_metrics(tmp_path)
    (tmp_path / "metrics.jsonl").write_text(json.dumps(GOOD) + "\n")
    assert read_metrics(tmp_path) == [GOOD]


@pytest.mark.parametrize(
    "state", [[], "a", {}, {"id": 1, "logged": {}}, {"id": "a"}, {"id": "a", "logged": {"x": "1"}}]
)
def test_a_damaged_tracker_is_known(state):
    assert not is_state(state)
    assert is_state({"id": "a", "logged": {"train": 3}})
