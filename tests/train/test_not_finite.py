"""What a run finds out about a step whose numbers are not finite, and that this changes nothing."""

import json
import math
import re

import pytest
import torch
from safetensors import safe_open

from echo.data.loading import Batch
from echo.train.batches import StepBatches
from echo.train.loop import Trainer
from echo.train.outcomes import MOST_STEPS, first_not_finite
from echo.train.run import start_run
from tests.train.test_loop import assert_same_run, tiny
from tests.train.test_robust import poison
from tests.train.test_step import make_batch, make_trainer


def named(caplog):
    return re.findall(r"step (\d+): .*not finite is that of (.*)", caplog.text)


def test_the_first_module_in_order_of_computing_is_named(tmp_path):
    trainer = make_trainer(tmp_path, model={"encoder_layers": 2})
    random = torch.get_rng_state()
    before = {name: value.clone() for name, value in trainer.state.unwrapped.state_dict().items()}
    assert first_not_finite(trainer.state.unwrapped, [make_batch()]) is None
    assert torch.equal(torch.get_rng_state(), random)
    assert trainer.state.unwrapped.training
    assert all(torch.equal(v, before[n]) for n, v in trainer.state.unwrapped.state_dict().items())
    batch = make_batch()
    batch.input_features[1, 3, 5] = math.nan
    assert (
        first_not_finite(trainer.state.unwrapped, [make_batch(), batch]) == "the feature extractor"
    )
    for name in ("model.decoder.layers.0.fc1", "model.encoder.layers.1.fc2"):
        with torch.no_grad():
            trainer.state.unwrapped.get_submodule(name).bias[0] = math.inf
        assert first_not_finite(trainer.state.unwrapped, [make_batch()]) == name


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_batch_of_the_step_is_kept(shared, tmp_path, monkeypatch, caplog, accumulation):
    """The very one, made once more; of the first few steps alone."""
    train = {"log_every": 5, "max_steps": 10, "accumulation": accumulation}
    config = tiny(shared, train=train, data={"augment": {"speed": [0.9, 1.1]}})
    taken: list[list[Batch]] = []
    count = Trainer.count

    def noted(trainer: Trainer, batches: StepBatches, outcome):
        taken.append(batches.own)
        count(trainer, batches, outcome)

    monkeypatch.setattr(Trainer, "count", noted)
    poison(monkeypatch, {1, 3, 4, 6}, "nan")
    start_run(config, tmp_path)
    paths = sorted((tmp_path / "not-finite").iterdir())
    assert [path.name[:11] for path in paths] == ["step-000002", "step-000004", "step-000005"]
    assert len(paths) == MOST_STEPS
    for number, path in zip((2, 4, 5), paths, strict=True):
        with safe_open(path, "pt") as file:
            for index, batch in enumerate(taken[number - 1]):
                ids = json.loads(file.metadata()[f"{index}.ids"])
                assert ids == [utterance.id for utterance in batch.utterances]
                for name in ("input_features", "labels", "attention_mask", "decoder_input_ids"):
                    assert torch.equal(file.get_tensor(f"{index}.{name}"), getattr(batch, name))
            assert len(file.metadata()) == accumulation
    assert named(caplog) == [
        (number, "no module, where the batch is heard again without dropout") for number in "245"
    ]


def test_looking_into_a_step_changes_nothing(shared, tmp_path, monkeypatch):
    poison(monkeypatch, {2}, "nan")
    start_run(tiny(shared), tmp_path / "one")
    monkeypatch.setattr("echo.train.outcomes.MOST_STEPS", 0)
    start_run(tiny(shared), tmp_path / "other")
    assert not (tmp_path / "other" / "not-finite").exists()
    assert_same_run(tmp_path / "one", tmp_path / "other")
