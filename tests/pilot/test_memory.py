"""The memory that training takes, against what a model must have."""

import pytest

from echo.checkpoints.load import load_model
from echo.data.build import build_corpus
from echo.pilot.memory import training_memory
from echo.train.run import start_run
from tests.train.test_loop import tiny

MB = 1_000_000


@pytest.mark.slow
def test_it_is_that_of_weights_moments_gradients_and_a_batch(shared, tmp_path):
    """The first three take 16 bytes a parameter; of other models trained before it holds none."""
    found = {}
    for width in (384, 32):
        model = {"d_model": width, "attention": {"encoder": "plain"}}
        loss = {"alignment_weight": 0.3}  # which only a model that is trained has
        run = tmp_path / str(width)
        config = tiny(shared, model=model, loss=loss, train={"max_steps": 1})
        corpus = build_corpus(config.data, config.seed)
        start_run(config, run, corpus)
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        needed = 16 * load_model(str(run), "last").model.num_parameters()
        found[width] = training_memory(run, corpus)
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
        assert 0.9 * needed < found[width] < needed + 150 * MB
    assert found[384] - found[32] > 60 * MB
