"""Averages of weights, over steps and over checkpoints."""

import pytest
import torch
from safetensors.torch import load_file

from echo.checkpoints.load import load_model
from echo.checkpoints.merge import average_run
from echo.checkpoints.run import CheckpointFolder
from echo.support.errors import EchoError
from echo.train.run import start_run
from echo.train.state import TrainState, WeightAverage
from tests.train.test_loop import assert_resumes_exactly, tiny, weights


def test_the_average_follows_its_definition():
    layer = torch.nn.Linear(3, 2)
    average = WeightAverage(layer, decay=0.9)
    expected = layer.weight.detach().clone()
    for step in range(1, 200):
        with torch.no_grad():
            layer.weight.copy_(torch.randn(2, 3, generator=torch.Generator().manual_seed(step)))
        average.update(step, torch.tensor(True))
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * layer.weight
    trained = layer.weight.clone()
    with average.in_place():
        torch.testing.assert_close(layer.weight, expected)
    assert torch.equal(layer.weight, trained)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_the_average_is_what_is_written_and_training_goes_on_without_it(shared, tmp_path, lora):
    """The same run with and without: its own losses are the same, its checkpoints are not."""
    start_run(tiny(shared), tmp_path / "start")
    init = {"init": str(tmp_path / "start"), "lora": lora, "loss": {"ctc_weight": 0.3}}
    start_run(tiny(shared, **init), tmp_path / "plain")
    start_run(tiny(shared, **init, train={"ema_decay": 0.5}), tmp_path / "averaged")
    plain, averaged = weights(tmp_path / "plain"), weights(tmp_path / "averaged")
    changed = [name for name in plain if not torch.equal(plain[name], averaged[name])]
    assert changed
    state = CheckpointFolder(tmp_path / "averaged").load()[1]
    if lora is None:
        assert all(torch.equal(state["trained"][n], plain[n]) for n in state["trained"])


@pytest.mark.slow
def test_a_resumed_run_averages_as_the_unbroken_run(shared, tmp_path, monkeypatch):
    config = tiny(shared, train={"ema_decay": 0.8})
    assert_resumes_exactly(config, tmp_path, monkeypatch, 5)


@pytest.fixture
def run(shared, tmp_path):
    start_run(tiny(shared, train={"eval_every": 2, "keep_best": 3}), tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.slow
def test_the_best_checkpoints_are_averaged(run):
    used = average_run(run, 2, run / "average")
    assert used == [path for _, path in CheckpointFolder(run).measured()][:2]
    first, second = (load_file(path / "model.safetensors") for path in used)
    found = load_file(run / "average" / "model.safetensors")
    assert found.keys() == first.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, (first[name] + second[name]) / 2)
    loaded = load_model(str(run / "average"))
    assert loaded.model.generation_config.max_length == 40
    assert not (run / "average" / "trainer.pt").exists()


@pytest.mark.slow
def test_what_cannot_be_averaged_is_told_of(run):
    with pytest.raises(EchoError, match=r"has \d checkpoints whose WER was measured, not 9"):
        average_run(run, 9, run / "average")
    average_run(run, 2, run / "average")
    with pytest.raises(EchoError, match="average: exists, and is not"):
        average_run(run, 2, run / "average")
    best = CheckpointFolder(run).path("best")
    (best / "model.safetensors").write_bytes(b"")
    with pytest.raises(EchoError, match="every checkpoint is damaged"):
        average_run(run, 2, run / "other")
    assert not (run / "other").exists()


@pytest.mark.slow
def test_evaluation_is_of_the_average(shared, tmp_path, monkeypatch):
    seen = []
    averaged = TrainState.averaged

    def watched(self):
        seen.append(self.progress.step)
        return averaged(self)

    monkeypatch.setattr(TrainState, "averaged", watched)
    start_run(tiny(shared, train={"ema_decay": 0.5}), tmp_path)
    assert seen == [3, 6, 7, 7]  # three checkpoints, and the evaluation at the end
