"""`--log-format json`: the events of a run on the standard output, and nothing else there."""

import json
import logging

import pytest
import yaml

from echo.support.settings import to_dict
from echo.train.step import TrainStep
from tests.test_cli import run as cli
from tests.train.test_loop import tiny


@pytest.mark.slow
def test_each_line_is_an_event_and_metrics_has_the_same(shared, tmp_path, monkeypatch, capsys):
    call = TrainStep.__call__

    def talking(self, batches):
        if self.state.progress.step == 3:
            print("a library says hello")
            logging.getLogger("echo.somewhere").warning("a line\nbreak")
        return call(self, batches)

    monkeypatch.setattr(TrainStep, "__call__", talking)
    config = to_dict(tiny(shared, train={"eval_every": 4, "trackers": []}))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    run = tmp_path / "run"
    arguments = ["train", str(tmp_path / "config.yaml"), "--out", str(run)]
    code, out, _ = cli(monkeypatch, capsys, *arguments, "--log-format", "json")
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert {"kind": "warning", "message": "a line\nbreak"} in lines
    events = [event for event in lines if event["kind"] != "warning"]
    assert [event.pop("run") for event in events] == [str(run)] * len(events)
    assert events == [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kinds = [event["kind"] for event in events]
    assert kinds[0] == "start"
    assert kinds.count("train") == 7
    assert [e["step"] for e in events if e["kind"] == "eval"] == [4, 7]
    assert kinds[-2:] == ["checkpoint", "end"]
    assert events[-1]["reason"] == "finished"
    assert events[-1]["last"] == str(run / "checkpoints" / "step-000007")
    # What the command set up is undone.
    logging.getLogger("echo.somewhere").warning("later")
    assert not capsys.readouterr().out
