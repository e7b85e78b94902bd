"""What trackers show of a run that broke off and was resumed, and of trackers that fail."""

import html
import json
import re
import sqlite3

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugin_util import markdown_to_safe_html
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from echo.config import RunConfig
from echo.support.errors import ConfigError, EchoError
from echo.support.settings import build
from echo.train import backends, trackers
from echo.train.examples import plain
from echo.train.recorder import read_metrics
from echo.train.run import resume_run, start_run
from tests.train.test_loop import StopError, assert_same_run, stop_after, tiny

EVALUATED = {"eval_every": 2, "eval_utterances": 3}


class Remembering:
    """A tracker that keeps what it is given, and fails when told to."""

    tracker = None

    def __init__(self, known=None, failures=0):
        self.run_id = known or "its id"
        self.known = known
        self.taken = []
        self.failures = failures

    def start(self):
        if self.failures < 0:
            raise ConnectionError("no server\nask somebody")

    def log(self, values, step):
        if self.failures:
            self.failures -= 1
            raise ConnectionError("no server")
        self.taken.append((step, values))

    def finish(self):
        pass


def backend_in_place_of_mlflow(patch, opened, failures=0):
    real = backends.open_backend

    def open_backend(name, run, title, settings, step, known):
        if name == "tensorboard":
            return real(name, run, title, settings, step, known)
        opened.append(Remembering(known, failures))
        return opened[-1]

    patch.setattr(backends, "open_backend", open_backend)
    patch.setattr(trackers, "find_spec", lambda name: name)


@pytest.fixture(scope="module")
def broken(shared, tmp_path_factory):
    """A run that stopped after step 5, and after step 4 of a second attempt, and was resumed from
    step 3 each time; and what its second tracker was given in all three."""
    run, opened = tmp_path_factory.mktemp("runs") / "broken", []
    names = {"trackers": ["tensorboard", "mlflow"]}
    config = tiny(shared, train={**EVALUATED, **names})
    with pytest.MonkeyPatch.context() as patch:
        backend_in_place_of_mlflow(patch, opened)
        for steps, begin in ((5, lambda: start_run(config, run)), (4, lambda: resume_run(run))):
            with pytest.MonkeyPatch.context() as stop:
                stop_after(stop, steps)
                with pytest.raises(StopError):
                    begin()
        resume_run(run)
    return run, opened


@pytest.fixture(scope="module")
def board(broken):
    run, _ = broken
    found = EventAccumulator(str(run / "tensorboard"), {"scalars": 0, "tensors": 0, "audio": 0})
    return found.Reload()


@pytest.mark.slow
def test_tensorboard_has_every_step_of_a_resumed_run_once(broken, board):
    run, _ = broken
    for kind, name in (("train", "loss"), ("train", "span/encoder.1"), ("eval", "wer")):
        events = [e for e in read_metrics(run) if e["kind"] == kind]
        shown = board.Scalars(f"{kind}/{name}")
        assert [e.step for e in shown] == [e["step"] for e in events]
        assert [e.value for e in shown] == pytest.approx([e[name] for e in events])
    assert [e.step for e in board.Scalars("train/loss")] == list(range(1, 8))


def test_other_trackers_are_given_every_step_once_under_the_same_id(broken):
    _, opened = broken
    assert [tracker.known for tracker in opened] == [None, "its id", "its id"]
    taken = [(s, v) for tracker in opened for s, v in tracker.taken]
    assert [s for s, v in taken if "train/loss" in v] == list(range(1, 8))
    assert [s for s, v in taken if "eval/wer" in v] == [2, 4, 6, 7]


@pytest.mark.slow
def test_tracking_changes_no_loss_and_no_weight(broken, shared, tmp_path):
    run, _ = broken
    start_run(tiny(shared, train={**EVALUATED, "trackers": []}), tmp_path / "without")
    assert not (tmp_path / "without" / "tensorboard").exists()
    assert not (tmp_path / "without" / "trackers.json").exists()
    assert_same_run(run, tmp_path / "without")


def test_tensorboard_shows_the_settings_and_compares_by_the_best_wer(board):
    content = board.PluginTagToContent("hparams")
    start = HParamsPluginData.FromString(content["_hparams_/session_start_info"])
    settings = start.session_start_info.hparams
    assert settings["train.learning_rate"].number_value == pytest.approx(1.5e-3)
    assert settings["data.corpus"].string_value == "fsdd"
    assert json.loads(settings["data.augment.speed"].string_value) == [0.9, 1.0, 1.1]
    experiment = HParamsPluginData.FromString(content["_hparams_/experiment"]).experiment
    [metric] = experiment.metric_infos
    best = [e.value for e in board.Scalars(metric.name.tag)]
    wers = [e.value for e in board.Scalars("eval/wer")]
    assert best == [min(wers[: i + 1]) for i in range(len(wers))]


def test_tensorboard_shows_the_same_utterances_at_each_evaluation(board):
    texts = board.Tensors("eval/transcripts/text_summary")
    assert [e.step for e in texts] == [2, 4, 6, 7]
    tables = [e.tensor_proto.string_val[0].decode().splitlines() for e in texts]
    references = [[row.split(" | ")[:2] for row in table[2:]] for table in tables]
    assert len(references[0]) == 3
    assert all(rows == references[0] for rows in references)
    audio = [tag for tag in board.Tags()["audio"] if tag.startswith("eval/")]
    assert len(audio) == 3
    assert all(board.Audio(tag)[0].sample_rate == 16000 for tag in audio)
    assert all([e.step for e in board.Audio(tag)] == [2] for tag in audio)
    assert set(board.Tags()["images"]) == {"attention/encoder-1", "attention/decoder-0"}
    assert [e.step for e in board.Images("attention/encoder-1")] == [2, 4, 7]


@pytest.mark.parametrize("text", ["<script>x</script> & `a` | *b* _c_ [d](e) #", "1. שלום $ \\ ~"])
def test_a_transcript_with_markup_is_shown_as_it_is(text):
    shown = markdown_to_safe_html(f"| a | b |\n| --- | --- |\n| {plain(text)} | {plain(text)} |")
    cells = re.findall(r"<td>(.*?)</td>", shown, re.DOTALL)
    assert [html.unescape(cell) for cell in cells] == [text, text]


@pytest.mark.slow
def test_a_tracker_that_fails_warns_once_and_loses_nothing(shared, tmp_path, monkeypatch, caplog):
    opened = []
    backend_in_place_of_mlflow(monkeypatch, opened, failures=4)
    config = tiny(shared, train={"trackers": ["mlflow"]})
    assert start_run(config, tmp_path).step == 7
    warnings = [r.getMessage() for r in caplog.records if r.name == "echo.train.trackers"]
    assert warnings == [
        "train.trackers: mlflow fails (no server): training goes on, and it is tried again at "
        "every event"
    ]
    steps = [step for step, values in opened[0].taken if "train/loss" in values]
    assert steps == list(range(1, 8))


@pytest.mark.slow
def test_a_tracker_that_cannot_start_stops_the_run_before_training(shared, tmp_path, monkeypatch):
    backend_in_place_of_mlflow(monkeypatch, [], failures=-1)
    with pytest.raises(EchoError, match=r"train\.trackers: mlflow cannot start: no server$"):
        start_run(tiny(shared, train={"trackers": ["mlflow"]}), tmp_path)
    assert not [e for e in read_metrics(tmp_path) if e["kind"] == "train"]


def test_a_tracker_that_is_unknown_or_not_installed_is_named(monkeypatch):
    with pytest.raises(ConfigError, match=r"train\.trackers\[0\] is 'tensorbord', but must be one"):
        build(RunConfig, {"train": {"trackers": ["tensorbord"]}}, "test")
    monkeypatch.setattr(trackers, "find_spec", lambda name: None if name == "wandb" else name)
    trackers.check_trackers(["tensorboard", "mlflow"])
    with pytest.raises(ConfigError, match="wandb is not installed; install it with 'pip install w"):
        trackers.check_trackers(["tensorboard", "wandb"])


@pytest.mark.slow
def test_trackio_goes_on_in_the_same_run(shared, tmp_path, monkeypatch):
    """In its own files, which need no server."""
    trackio = pytest.importorskip("trackio", reason="pip install 'echo-asr[trackers]'")
    folder = tmp_path / "trackio"
    for module in (trackio, trackio.sqlite_storage, trackio.utils):
        monkeypatch.setattr(module, "TRACKIO_DIR", folder, raising=False)
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(StopError):
            start_run(tiny(shared, train={"trackers": ["trackio"]}), run)
    resume_run(run)
    [database] = folder.glob("echo-asr*.db")
    with sqlite3.connect(database) as connection:
        rows = connection.execute("select run_name, step, metrics from metrics").fetchall()
    assert len({name for name, _, _ in rows}) == 1
    shown = [(step, json.loads(metrics).get("train/loss")) for _, step, metrics in rows]
    events = [(e["step"], e["loss"]) for e in read_metrics(run) if e["kind"] == "train"]
    assert sorted(entry for entry in shown if entry[1] is not None) == events
