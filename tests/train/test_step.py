"""One optimiser step, against the same computed anew: what is summed, divided and clipped, and at
which learning rate the weights move."""

import math
import traceback
from itertools import repeat

import pytest
import torch
from accelerate import Accelerator
from torch.utils._python_dispatch import TorchDispatchMode

from echo.config import RunConfig, TrainSettings
from echo.data.batch import IGNORED, Batch
from echo.data.batching import Position
from echo.data.tokenizer import train_tokenizer
from echo.data.utterance import Utterance
from echo.support.settings import build, merge
from echo.support.signals import StopRequest
from echo.train.batches import StepBatches
from echo.train.build import build_model
from echo.train.loop import Trainer
from echo.train.losses import registry
from echo.train.losses.base import Loss
from echo.train.schedule import rate_factor
from echo.train.step import Done, forward

TOKENIZER = train_tokenizer(["abcdef"])
LABELS = torch.tensor([[6, 7, 8, 9], [7, 9, IGNORED, IGNORED]])
TOKENS = 6
CONFIG = {
    "model": {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "heads": 2, "dropout": 0},
    "data": {"corpus": "fsdd"},
    "loss": {"ctc_weight": 0},
    "train": {"max_steps": 20, "warmup_steps": 4, "learning_rate": 0.01, "weight_decay": 0},
}


def make_trainer(tmp_path, **changes):
    torch.manual_seed(0)
    config = build(RunConfig, merge(CONFIG, changes), "test")
    model = build_model(config, TOKENIZER).train()
    return Trainer(config, tmp_path, None, model, TOKENIZER)


def make_batch():
    generator = torch.Generator().manual_seed(1)
    return Batch(
        [Utterance(str(i), None, "", 0.6) for i in range(2)],
        torch.randn(2, 80, 60, generator=generator),
        (torch.arange(60) < torch.tensor([[60], [40]])).long(),
        torch.tensor([[2, 6, 7, 8], [2, 7, 9, 0]]),
        LABELS,
        [],
    )


def loss_by_hand(trainer, smoothing=0.0):
    """The loss per token: of each token, -log p of the right one, of which smoothing gives a share
    to the mean over all tokens."""
    batch = make_batch()
    logits = trainer.state.unwrapped(
        batch.input_features,
        attention_mask=batch.attention_mask,
        decoder_input_ids=batch.decoder_input_ids,
    ).logits
    total = 0.0
    for row, labels in zip(logits, LABELS.tolist(), strict=True):
        for scores, label in zip(row, labels, strict=True):
            if label != IGNORED:
                surprise = scores.exp().sum().log() - scores
                total += (1 - smoothing) * surprise[label] + smoothing * surprise.mean()
    return total / TOKENS


def trained(trainer):
    return [p for p in trainer.state.unwrapped.parameters() if p.requires_grad]


def gradients_by_hand(trainer, smoothing=0.0):
    loss = loss_by_hand(trainer, smoothing)
    found = torch.autograd.grad(loss, trained(trainer), allow_unused=True)
    return loss.item(), [None if g is None else g.clone() for g in found]


def norm(gradients):
    return math.sqrt(sum(float(g.double().square().sum()) for g in gradients if g is not None))


def check_gradients(trainer, wanted, factor=1.0):
    for parameter, gradient in zip(trained(trainer), wanted, strict=True):
        if gradient is not None:
            torch.testing.assert_close(parameter.grad, factor * gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_step_goes_by_the_mean_over_tokens_with_smoothed_labels(tmp_path, smoothing):
    settings = {"loss": {"label_smoothing": smoothing}, "train": {"max_grad_norm": 1000}}
    trainer = make_trainer(tmp_path, **settings)
    loss, wanted = gradients_by_hand(trainer, smoothing)
    values = trainer.step.accumulate([make_batch()])
    assert values["loss"].item() == pytest.approx(loss, rel=1e-5)
    assert values["decoder_loss"].item() == pytest.approx(loss, rel=1e-5)
    assert values["grad_norm"].item() == pytest.approx(norm(wanted), rel=1e-4)
    check_gradients(trainer, wanted)


def test_a_new_loss_is_one_class_in_the_registry(tmp_path, monkeypatch):
    """It is added with its weight, and logged by its name, per target token; "loss" stays."""

    class Large(Loss):
        name = "large"
        setting = "anchor_kl"

        def __call__(self, output, batch):
            return output.logits.square().sum()

    monkeypatch.setattr(registry, "LOSSES", (*registry.LOSSES[:2], Large))
    trainer = make_trainer(tmp_path, loss={"anchor_kl": 0.5}, train={"max_grad_norm": 1000})
    batch = make_batch()
    logits = forward(trainer.state.model, batch).logits
    wanted = torch.autograd.grad(
        loss_by_hand(trainer) + 0.5 * logits.square().sum() / TOKENS,
        trained(trainer),
        allow_unused=True,
    )
    values = trainer.step.accumulate([batch])
    assert values["large"].item() == pytest.approx(logits.square().sum().item() / TOKENS, rel=1e-5)
    torch.testing.assert_close(values["loss"], values["decoder_loss"])
    check_gradients(trainer, wanted)


def test_what_is_logged_keeps_no_graph_in_memory(tmp_path):
    trainer = make_trainer(tmp_path, loss={"ctc_weight": 0.3})
    values = trainer.step.accumulate([make_batch()])
    assert all(value.grad_fn is None for value in values.values())
    both = 0.7 * values["decoder_loss"] + 0.3 * values["ctc_loss"]
    torch.testing.assert_close(values["loss"], both)
    assert values["ctc_loss"] > 0


@pytest.mark.parametrize("share", [0.25, 4.0])
def test_larger_gradients_are_scaled_down_to_the_norm_and_smaller_ones_stay(tmp_path, share):
    _, wanted = gradients_by_hand(make_trainer(tmp_path))
    whole = norm(wanted)
    trainer = make_trainer(tmp_path, train={"max_grad_norm": share * whole})
    values = trainer.step.accumulate([make_batch()])
    assert values["grad_norm"].item() == pytest.approx(whole, rel=1e-4)  # before it is clipped
    found = [p.grad for p in trained(trainer)]
    assert norm(found) == pytest.approx(min(1, share) * whole, rel=1e-4)
    check_gradients(trainer, wanted, min(1, share))


def test_the_mean_of_all_processes_gradients_is_the_sum_over_their_tokens(tmp_path, monkeypatch):
    """DDP and FSDP average over the processes, so each gives as many times its own share."""
    trainer = make_trainer(tmp_path)
    _, wanted = gradients_by_hand(trainer)
    monkeypatch.setattr(Accelerator, "num_processes", property(lambda _: 3))
    losses = trainer.step.backward(make_batch(), torch.tensor(5 * TOKENS))  # two others have 4 / 5
    assert losses[0].item() == pytest.approx(TOKENS * loss_by_hand(trainer).item(), rel=1e-5)
    check_gradients(trainer, wanted, 3 / 5)


class HostReads(TorchDispatchMode):
    """Notes the operations by which the host reads a number from the device, except where
    transformers, of any decoder, reads whether its rows hold several sequences."""

    reading = ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::item", "aten::equal")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._schema.name in self.reading:
            asking = [frame.name for frame in traceback.extract_stack()]
            if "find_packed_sequence_indices" not in asking:
                self.found.append(func._schema.name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("decay", [None, 0.9])
def test_the_host_reads_nothing_between_logged_steps(tmp_path, monkeypatch, decay):
    trainer = make_trainer(
        tmp_path,
        train={"log_every": 5, "max_steps": 10, "checkpoint_every": 5, "ema_decay": decay},
        loss={"ctc_weight": 0.3},
    )
    batch = StepBatches([make_batch()], 2, 0, Position(), Position())
    monkeypatch.setattr("echo.train.loop.beginning", lambda *_: {})
    monkeypatch.setattr(trainer, "batches", lambda: repeat(batch))
    monkeypatch.setattr(trainer, "evaluate", lambda _: False)
    monkeypatch.setattr(trainer, "save", lambda _: trainer.outcomes.read())
    found = {}
    with StopRequest() as request, HostReads() as reads:
        for _ in trainer.steps(request, "test"):
            found[trainer.progress.step] = len(reads.found)
            reads.found.clear()
    assert [step for step, count in found.items() if count] == [5, 10]
    assert len(found) == 10


@pytest.mark.parametrize("poisoned", [0, 2])
def test_a_wrong_number_leaves_weights_optimiser_and_average_as_they_were(tmp_path, poisoned):
    trainer = make_trainer(tmp_path, train={"ema_decay": 0.9, "warmup_steps": 0})
    for step in range(4):
        batch, before = make_batch(), [t.clone() for t in state_tensors(trainer)]
        if step == poisoned:
            batch.input_features[0, 0, 0] = math.nan
        done = trainer.step([batch])
        assert bool(done.finite) == (step != poisoned)
        kept = [torch.equal(*p) for p in zip(before, state_tensors(trainer), strict=False)]
        assert all(kept) if step == poisoned else not all(kept)
        assert all(torch.isfinite(t).all() for t in state_tensors(trainer))


def state_tensors(trainer):
    state = trainer.state
    moments = [t for s in state.optimiser.state_dict()["state"].values() for t in s.values()]
    return [*trained(trainer), *state.average.values, *moments]


def rate_by_hand(kind, step, warmup, steps, highest):
    if step < warmup:
        return highest * step / warmup
    done = (step - warmup) / (steps - warmup)
    return highest * (1 - done if kind == "linear" else (1 + math.cos(math.pi * done)) / 2)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_every_step_moves_the_weights_at_the_rate_of_the_schedule(tmp_path, kind):
    """Through the warm-up, and down to 0 with the last step."""
    trainer = make_trainer(tmp_path, train={"schedule": kind, "new_learning_rate": 0.02})
    rates: dict[float, list[float]] = {0.01: [], 0.02: []}

    def note(optimiser, *_):
        for highest, group in {g["initial_lr"]: g for g in optimiser.param_groups}.items():
            rates[highest].append(group["lr"])

    trainer.state.optimiser.optimizer.register_step_pre_hook(note)
    for _ in range(20):
        assert not trainer.state.finished
        assert isinstance(trainer.step([make_batch()]), Done)
    assert trainer.state.finished
    for highest, found in rates.items():
        wanted = [rate_by_hand(kind, step, 4, 20, highest) for step in range(20)]
        assert found == pytest.approx(wanted, abs=1e-12)
    assert trainer.state.schedule.get_last_lr() == pytest.approx([0, 0, 0, 0])


def test_the_rate_of_each_part_is_logged_where_they_differ(tmp_path):
    """Each moves by the one schedule."""
    rates = {"decoder": 0.5, "encoder": 1}
    names = {
        "": {},
        "decoder encoder": {"rates": rates},
        "new": {"new_learning_rate": 0.02},
        "decoder encoder encoder/new": {"rates": rates, "new_learning_rate": 0.02},
    }
    for wanted, settings in names.items():
        trainer = make_trainer(tmp_path, train={"schedule": "linear", **settings})
        for _ in range(12):
            trainer.step([make_batch()])
        found = trainer.state.learning_rates()
        assert found.pop("learning_rate") == pytest.approx(0.005)
        assert {key.removeprefix("learning_rate/") for key in found} == {*wanted.split()}
        for key, rate in found.items():
            factor = rates.get(key.split("/")[1], 1) * (2 if key.endswith("new") else 1)
            assert rate == pytest.approx(0.005 * factor), key


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_a_run_that_is_all_warm_up_ends_at_a_rate_of_0(kind):
    settings = TrainSettings(max_steps=4, warmup_steps=4, schedule=kind)
    rates = [rate_factor(settings, step, 0.0) for step in range(6)]
    assert rates == [0, 0.25, 0.5, 0.75, 0, 0]
