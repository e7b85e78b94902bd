"""A run that is asked to stop, whose numbers go wrong, or whose memory runs out."""

import gc
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from accelerate.utils import DynamoBackend

from echo.checkpoints.load import load_model
from echo.checkpoints.run import CheckpointFolder
from echo.support.errors import EchoError, StoppedError
from echo.support.settings import to_dict
from echo.train import measuring
from echo.train.recorder import read_metrics
from echo.train.run import resume_run, start_run, started_trainer
from echo.train.step import Skipped, TrainStep
from tests.train.test_loop import assert_same_run, losses, tiny


def after_step(monkeypatch, number, action):
    """Lets something happen in the middle of a step."""
    accumulate = TrainStep.accumulate

    def disturbed(self, batches):
        if self.state.progress.step == number:
            action()
        return accumulate(self, batches)

    monkeypatch.setattr(TrainStep, "accumulate", disturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("step", [3, 5])
def test_a_signal_writes_a_checkpoint_and_nothing_is_lost(
    shared, tmp_path, monkeypatch, number, step
):
    """Also where an evaluation was due after the step that was being made, which is made up."""
    config = tiny(shared, train={"accumulation": 2, "eval_every": 4, "log_every": 3})
    start_run(config, tmp_path / "whole")
    after_step(monkeypatch, step, lambda: os.kill(os.getpid(), number))
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(StoppedError, match=f"stopped by {number.name} after step {step + 1}"):
        start_run(config, tmp_path / "run")
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    monkeypatch.undo()
    assert CheckpointFolder(tmp_path / "run").load()[1]["progress"]["step"] == step + 1
    resume_run(tmp_path / "run")
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    wers = [
        [(e["step"], e["wer"]) for e in read_metrics(tmp_path / name) if e["kind"] == "eval"]
        for name in ("run", "whole")
    ]
    assert wers[0] == wers[1]


@pytest.mark.slow
def test_the_command_stops_at_a_signal_to_all_of_its_processes(shared, tmp_path):
    """As a scheduler sends it, to the workers too."""
    config = tiny(shared, data={"workers": 1}, train={"max_steps": 5000, "eval_every": 9999})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(to_dict(config)))
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "echo", "train", str(tmp_path / "config.yaml"), "--out", str(run)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not read_metrics(run):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "continue with 'echo-asr resume" in error
    assert "Traceback" not in error
    assert CheckpointFolder(run).load()[1]["progress"]["step"] == read_metrics(run)[-1]["step"]


def poison(monkeypatch, steps, what):
    """Makes the loss or the gradients of some steps infinite or not a number."""
    backward = TrainStep.backward

    def wrong(self, batch, tokens):
        losses = backward(self, batch, tokens)
        if self.state.progress.step in steps:
            if what == "loss":
                return losses * float("nan")
            next(p for p in self.state.model.parameters() if p.grad is not None).grad.fill_(
                float(what)
            )
        return losses

    monkeypatch.setattr(TrainStep, "backward", wrong)


@pytest.mark.parametrize("what", ["loss", "inf", "nan"])
def test_a_step_whose_numbers_go_wrong_is_skipped(shared, tmp_path, monkeypatch, caplog, what):
    poison(monkeypatch, {2, 4}, what)
    progress = start_run(tiny(shared), tmp_path)
    assert progress.step == 7
    assert progress.skipped_steps == 2
    assert progress.skipped_in_row == 0
    assert len(losses(tmp_path)) == 5  # of 7 steps
    assert all(torch.isfinite(torch.tensor(losses(tmp_path))))
    assert "step 3 is skipped: its loss or gradient is not a finite number; utterances: train-" in (
        caplog.text
    )


def test_wrong_numbers_leave_the_weights_and_the_optimiser_as_they_were(
    shared, tmp_path, monkeypatch
):
    config = tiny(shared, train={"max_steps": 3, "checkpoint_every": 1})
    poison(monkeypatch, {2}, "nan")
    start_run(config, tmp_path)
    before, after = CheckpointFolder(tmp_path).newest()[::-1]
    states = [torch.load(p / "trainer.pt", weights_only=True)["optimiser"] for p in (before, after)]
    assert (before / "model.safetensors").read_bytes() == (after / "model.safetensors").read_bytes()
    for one, other in zip(*(s["state"].values() for s in states), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_too_many_wrong_steps_in_a_row_stop_the_run(shared, tmp_path, monkeypatch):
    poison(monkeypatch, range(4, 99), "nan")
    config = tiny(shared, train={"max_steps": 50, "max_skipped_steps": 3})
    with pytest.raises(
        EchoError,
        match=r"stopped after 3 skipped steps in a row, the last being step 7: its loss or "
        r"gradient is not a finite number; the last good checkpoint is .*step-000003$",
    ):
        start_run(config, tmp_path)
    assert [path.name[-1] for path in CheckpointFolder(tmp_path).newest()] == ["6", "3"]


def out_of_memory(monkeypatch, size):
    """Lets batches of so many utterances and more run out of memory, half-way through."""
    backward = TrainStep.backward

    def too_large(self, batch, tokens):
        losses = backward(self, batch, tokens)
        if len(batch.utterances) >= size:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return losses

    monkeypatch.setattr(TrainStep, "backward", too_large)


def test_a_batch_that_does_not_fit_is_halved(shared, tmp_path, monkeypatch, caplog):
    """With the gradients that it would have had whole."""
    config = tiny(
        shared,
        model={"dropout": 0.0},
        data={"max_batch_size": 4, "max_batch_seconds": 100},
        train={"max_steps": 2},
    )
    start_run(config, tmp_path / "whole")
    out_of_memory(monkeypatch, 4)
    progress = start_run(config, tmp_path / "run")
    assert progress.skipped_steps == 0
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)
    assert "a smaller data.max_batch_seconds (now 100)" in caplog.text


def test_a_batch_whose_halves_do_not_fit_is_skipped(shared, tmp_path, monkeypatch, caplog):
    config = tiny(shared, data={"max_batch_seconds": 100}, train={"max_skipped_steps": 2})
    out_of_memory(monkeypatch, 2)
    with pytest.raises(EchoError, match=r"after 2 skipped steps in a row.*do not fit into memory"):
        start_run(config, tmp_path)
    assert "step 1 is skipped: its batches do not fit into memory; utterances: " in caplog.text


def test_what_ran_out_of_memory_does_not_stay_in_it(shared, tmp_path, monkeypatch):
    """No tensor of the failed step has a graph, which would keep its activations."""

    def graphs():
        gc.collect()
        tensors = [each for each in gc.get_objects() if isinstance(each, torch.Tensor)]
        return {id(tensor) for tensor in tensors if tensor.grad_fn is not None}

    def too_large(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    loss = {"span_penalty": 0.1, "alignment_weight": 0.1}
    trainer = started_trainer(tiny(shared, loss=loss), tmp_path)
    trainer.state.model.train()
    batches = next(trainer.batches()).own
    monkeypatch.setattr("echo.train.losses.joint.DecoderLoss.of_batch", lambda *_: too_large)
    before = graphs()
    assert trainer.step(batches) is Skipped.MEMORY
    assert graphs() <= before


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4"),
        ("ACCELERATE_MIXED_PRECISION", "bf16"),
        ("ACCELERATE_DYNAMO_BACKEND", "EAGER"),
    ],
)
def test_no_variable_of_accelerate_changes_a_run(shared, tmp_path, monkeypatch, variable, value):
    config = tiny(shared, train={"max_steps": 3, "accumulation": 2})
    start_run(config, tmp_path / "plain")
    AcceleratorState._reset_state()  # as in another process
    monkeypatch.setenv(variable, value)
    trainer = started_trainer(config, tmp_path / "run")
    trainer.train()
    assert_same_run(tmp_path / "run", tmp_path / "plain")
    assert trainer.accelerator.state.dynamo_plugin.backend == DynamoBackend.NO


def test_a_program_trains_in_one_precision_after_another(shared, tmp_path):
    for number, precision in enumerate(["fp32", "bf16", "fp32"]):
        config = tiny(shared, train={"max_steps": 2, "precision": precision})
        start_run(config, tmp_path / str(number))
    first, other, again = (losses(tmp_path / str(number)) for number in range(3))
    assert first == again != other


def test_evaluation_computes_in_the_precision_of_the_weights(shared, tmp_path, monkeypatch):
    """As `evaluate` does with the checkpoint, encoder and decoder alike; training stays in bf16."""
    features, ids = torch.randn(1, 80, 100), torch.tensor([[1, 4, 5]])
    found = {}
    transcribe = measuring.transcribe_set

    @torch.no_grad()
    def spy(loaded, *rest, **options):
        found["logits"] = loaded.model.eval()(features, decoder_input_ids=ids).logits
        return transcribe(loaded, *rest, **options)

    monkeypatch.setattr(measuring, "transcribe_set", spy)
    trainer = started_trainer(tiny(shared, train={"max_steps": 2, "precision": "bf16"}), tmp_path)
    trainer.train()
    model = trainer.state.unwrapped.eval()
    plain = load_model(str(tmp_path), "last").model
    with torch.no_grad():
        expected = plain(features, decoder_input_ids=ids).logits
        assert not torch.equal(model(features, decoder_input_ids=ids).logits, expected)
    assert torch.equal(found["logits"], expected)


def test_blocks_are_watched_in_the_precision_of_training(shared, tmp_path):
    train = {"max_steps": 2, "log_every": 1, "precision": "bf16"}
    model = {
        "encoder_positions": "none",
        "attention": {"encoder": {"form": "convolution", "rotary_base": 10_000}},
    }
    start_run(tiny(shared, train=train, model=model), tmp_path)
    spans = [e["span/encoder.0"] for e in read_metrics(tmp_path) if e["kind"] == "train"]
    assert len(spans) == 2
    assert all(0 < span < 1 for span in spans)


def test_no_checkpoint_needs_to_be_kept_for_its_wer(shared, tmp_path):
    start_run(tiny(shared, train={"keep_best": 0, "eval_every": 2}), tmp_path)
    assert [path.name for path in CheckpointFolder(tmp_path).newest()] == [
        "step-000007",
        "step-000006",
    ]


def test_another_error_is_not_taken_for_out_of_memory(shared, tmp_path, monkeypatch):
    def broken(self, batch, tokens):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(TrainStep, "backward", broken)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        start_run(tiny(shared), tmp_path)
