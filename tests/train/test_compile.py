"""Compiled layers: the same training, and no compiled decoding."""

import pytest
import torch
from torch._dynamo.utils import counters

import echo.train.measuring
from echo.support.errors import ConfigError
from echo.train.run import start_run
from tests.train.test_loop import losses, tiny, weights

ATTENTION = {"encoder": {"form": "adaptive", "rotary_base": 100.0}, "decoder": "adaptive"}


@pytest.mark.slow
def test_compiled_layers_train_as_those_that_are_not(shared, tmp_path, monkeypatch):
    """With losses on what hooks remember of a layer; evaluation compiles nothing more."""
    changes = {
        "model": {"attention": ATTENTION, "encoder_layers": 1, "dropout": 0.0, "d_model": 48},
        "data": {"max_batch_seconds": 30},  # batches of one would be compiled for themselves
        "loss": {"alignment_weight": 0.3, "span_penalty": 0.1},
        "train": {"max_steps": 4, "eval_every": 2},
    }
    start_run(tiny(shared, **changes), tmp_path / "eager")
    torch.compiler.reset()
    counters.clear()
    graphs = []

    def counted(*args, **rest):
        before = counters["stats"]["unique_graphs"]
        found = transcribe_set(*args, **rest)
        graphs.append((before, counters["stats"]["unique_graphs"]))
        return found

    transcribe_set = echo.train.measuring.transcribe_set
    monkeypatch.setattr(echo.train.measuring, "transcribe_set", counted)
    changes["train"]["compile"] = True
    start_run(tiny(shared, **changes), tmp_path / "compiled")
    assert len(graphs) == 2
    # A layer's graph ends at hooks alone.
    assert all("CallRecorder.remember" in reason for reason in counters["graph_break"])
    assert all(before == after > 0 for before, after in graphs)
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "eager"), rel=1e-5)
    one, other = weights(tmp_path / "eager"), weights(tmp_path / "compiled")
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(other[name], one[name], rtol=1e-3, atol=1e-4, msg=name)


def test_without_a_compiler_the_run_is_refused(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    config = tiny(shared, train={"compile": True})
    with pytest.raises(ConfigError, match=r"train\.compile needs a C\+\+ compiler \(no-such"):
        start_run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
