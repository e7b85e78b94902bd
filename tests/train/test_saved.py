"""A training state that another version wrote, or that was edited, is named before it is used."""

import pytest
import torch

from echo.checkpoints.checksums import seal
from echo.checkpoints.run import TRAINER_FILE, CheckpointFolder
from echo.support.errors import EchoError
from echo.train.run import resume_run, start_run
from tests.train.test_loop import tiny


def put(*path, value):
    def change(state):
        *inner, last = path
        for key in inner:
            state = state[key]
        state[last] = value

    return change


def drop(*path):
    def change(state):
        *inner, last = path
        for key in inner:
            state = state[key]
        del state[last]

    return change


CHANGES = {
    "no optimiser": (drop("optimiser"), "optimiser is no mapping"),
    "another shape": (
        put("optimiser", "state", 0, "exp_avg", value=torch.zeros(3)),
        r"optimiser.state.0.exp_avg has the shape \(3,\)",
    ),
    "no tensor": (put("optimiser", "state", 0, "exp_avg", value=[1.0]), "exp_avg is no tensor"),
    "sparse": (
        lambda state: put("optimiser", "state", 0, "exp_avg", value=torch.zeros(2, 2).to_sparse())(
            state
        ),
        "exp_avg is no tensor",
    ),
    "shared memory": (
        lambda state: put(
            *("optimiser", "state", 0, "exp_avg"),
            value=torch.zeros(1).expand(state["optimiser"]["state"][0]["exp_avg"].shape),
        )(state),
        "share memory",
    ),
    "another optimiser": (
        put("optimiser", "state", 0, value={"momentum_buffer": torch.zeros(1)}),
        "not what the optimiser keeps",
    ),
    "a parameter too many": (
        put("optimiser", "state", 10**6, value={}),
        "optimiser.state.1000000 is not what",
    ),
    "no rate": (put("optimiser", "param_groups", 0, "lr", value="fast"), "lr is no number"),
    "a nan rate": (put("optimiser", "param_groups", 0, "lr", value=float("nan")), "lr is no"),
    "other groups": (put("optimiser", "param_groups", 0, "params", value=[0]), "is no list of"),
    "no schedule": (put("schedule", value=None), "schedule is no mapping"),
    "an odd schedule": (put("schedule", "last_epoch", value="3"), "last_epoch is no whole number"),
    "no random": (put("random", value=7), "random is no list"),
    "short random": (put("random", 0, "python", 1, value=[1, 2]), "random.0.python.1 is no list"),
    "large random": (put("random", 0, "python", 1, 0, value=2**80), "random.0.python.1.0 is no"),
    "far random": (put("random", 0, "numpy", "pos", value=10**9), "pos is not from 0 to 624"),
    "torch random": (
        put("random", 0, "torch", value=torch.zeros(8, dtype=torch.uint8)),
        r"random.0.torch has the shape \(8,\)",
    ),
    "garbled random": (
        lambda state: state["random"][0]["torch"].fill_(255),
        "trainer.pt: ",
    ),
    "recent": (put("recent", value=[1]), "recent is no list of losses"),
    "a config": (put("config", value="a: ["), "its config is not YAML"),
}


@pytest.fixture(scope="module")
def finished(shared, tmp_path_factory):
    run = tmp_path_factory.mktemp("saved") / "run"
    start_run(tiny(shared, train={"max_steps": 1, "trackers": []}), run)
    path, _ = CheckpointFolder(run).load()
    return run, path, (path / TRAINER_FILE).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_an_edited_state_is_one_sentence(finished, change, message):
    run, path, good = finished
    file = path / TRAINER_FILE
    file.write_bytes(good)
    state = torch.load(file, weights_only=True)
    change(state)
    torch.save(state, file)
    (path / "checksums.json").unlink()
    seal(path)
    with pytest.raises(EchoError, match=message) as caught:
        resume_run(run, overrides=["train.max_steps=2"])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    file.write_bytes(good)


def test_the_version_that_wrote_a_state_is_named(finished):
    _, path, _ = finished
    state = torch.load(path / TRAINER_FILE, weights_only=True)
    assert state["versions"]["torch"] == torch.__version__.split("+")[0]
