import copy
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from torch.utils._python_dispatch import TorchDispatchMode

from echo.config import RunConfig
from echo.data.batch import IGNORED
from echo.model.config import EchoConfig
from echo.model.model import EchoOutput
from echo.support.settings import build, merge
from echo.train.build import build_model
from echo.train.loop import Trainer
from echo.train.losses import chunks
from echo.train.losses.base import Setup
from echo.train.losses.registry import build_losses
from tests.train.test_step import CONFIG, TOKENIZER, make_batch

BLANK, END, START = 0, 1, 2
SPECIAL = torch.tensor([BLANK, END, START])


@pytest.fixture
def output():
    return EchoOutput(logits=torch.randn(2, 4, 8), ctc_logits=torch.randn(2, 9, 8))


LABELS = torch.tensor([[3, 4, 4, END], [5, END, IGNORED, IGNORED]])
MASK = (torch.arange(18) < torch.tensor([[18], [11]])).long()  # 9 and 6 encoder frames


def losses(output, ctc_weight=0.3, labels=LABELS, mask=MASK):
    """What a step sums up over the batch: by name, and what it minimises."""
    config = build(RunConfig, {"loss": {"ctc_weight": ctc_weight}}, "test")
    model = SimpleNamespace(config=EchoConfig())
    found = build_losses(Setup(config, model, TOKENIZER, Accelerator()))
    found[1].special_ids, found[1].blank = SPECIAL, BLANK
    batch = SimpleNamespace(labels=labels, attention_mask=mask, ctc_labels=None, told_mask=None)
    values = {loss.name: loss(output, batch) for loss in found}
    return values, sum(loss.weight * values[loss.name] for loss in found)


def test_the_decoder_loss_is_the_sum_over_real_tokens(output):
    log = output.logits.log_softmax(-1)
    wanted = -(log[0, 0, 3] + log[0, 1, 4] + log[0, 2, 4] + log[0, 3, END])
    wanted -= log[1, 0, 5] + log[1, 1, END]
    found, total = losses(output, ctc_weight=0)
    torch.testing.assert_close(total, wanted)
    torch.testing.assert_close(found["decoder_loss"], wanted)
    assert found["ctc_loss"] == 0


def test_ctc_aligns_the_text_alone_to_each_utterances_own_frames(output):
    log = output.ctc_logits.log_softmax(-1)
    wanted = sum(
        torch.nn.functional.ctc_loss(
            log[row, :frames, None],
            torch.tensor([text]),
            torch.tensor([frames]),
            torch.tensor([len(text)]),
            blank=BLANK,
            reduction="sum",
        )
        for row, frames, text in ((0, 9, [3, 4, 4]), (1, 6, [5]))
    )
    found, total = losses(output)
    torch.testing.assert_close(found["ctc_loss"], wanted)
    torch.testing.assert_close(total, 0.7 * found["decoder_loss"] + 0.3 * wanted)


def test_where_nobody_speaks_the_end_and_only_blanks_are_learned(output):
    empty = torch.tensor([[END, IGNORED], [END, IGNORED]])
    output.logits = output.logits[:, :2]
    blanks = output.ctc_logits.log_softmax(-1)[..., BLANK]
    found, _ = losses(output, labels=empty)
    torch.testing.assert_close(found["ctc_loss"], -(blanks[0].sum() + blanks[1, :6].sum()))
    ends = output.logits[:, 0].log_softmax(-1)[:, END]
    torch.testing.assert_close(found["decoder_loss"], -ends.sum())


def test_a_prompt_among_the_labels_is_not_ctc_text(output):
    prompted = torch.tensor([[START, 3, 4, 4], [START, 5, END, IGNORED]])
    found, plain = losses(output, labels=prompted)[0], losses(output)[0]
    torch.testing.assert_close(found["ctc_loss"], plain["ctc_loss"])


def test_an_utterance_too_short_for_its_text_costs_nothing_and_harms_nothing(output):
    output.ctc_logits.requires_grad_()
    short = torch.zeros_like(MASK)
    short[:, :2] = 1  # one frame for three tokens
    _, total = losses(output, ctc_weight=1.0, mask=short)
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(output.ctc_logits.grad).all()


class RowsOfLogits(TorchDispatchMode):
    """Notes the most rows of logits that are normalised at once."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if func._schema.name == "aten::_log_softmax":
            self.most = max(self.most, found.shape[:-1].numel())
        return found


def trained_by(tmp_path, start, settings):
    """The metrics and gradients of a step, and the most rows of logits at once."""
    base = {"init": "any", "train": {"max_grad_norm": 1e9}}
    config = build(RunConfig, merge(merge(CONFIG, base), settings), "test")
    torch.manual_seed(0)
    model = build_model(config, TOKENIZER).train()
    trainer = Trainer(config, tmp_path, None, model, TOKENIZER, start=copy.deepcopy(start))
    with RowsOfLogits() as rows:
        values = trainer.step.accumulate([make_batch()])
    return values, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}, rows.most


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"loss": {"label_smoothing": 0.2, "anchor_kl": 0.7}},
        {"loss": {"anchor_kl": 0.7}, "train": {"freeze": ["decoder"]}},
    ],
)
def test_logits_of_a_few_tokens_at_a_time_give_the_same_losses_and_gradients(
    tmp_path, monkeypatch, settings
):
    """As whole logits do, which a loss can ask for."""
    torch.manual_seed(1)
    start = build_model(build(RunConfig, CONFIG, "test"), TOKENIZER)
    monkeypatch.setattr(chunks, "LOGITS", 3 * len(TOKENIZER) + 1)
    values, gradients, most = trained_by(tmp_path, start, settings)
    monkeypatch.setattr("echo.train.losses.joint.DecoderLoss.reads_logits", True)
    wanted, whole, most_whole = trained_by(tmp_path, start, settings)
    assert (most, most_whole) == (3, LABELS.numel())
    for name, value in wanted.items():
        torch.testing.assert_close(values[name], value)
    assert gradients.keys() == whole.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-6)


def test_logits_are_computed_in_the_precision_of_training(monkeypatch):
    monkeypatch.setattr(chunks, "LOGITS", 3 * 8)
    hidden, weight = (torch.randn(rows, 4, requires_grad=True) for rows in (7, 8))
    labels, seen = torch.randint(8, (7,)), []

    def summed(logits, labels, part):
        seen.append(logits.dtype)
        return torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum")

    with torch.autocast("cpu", torch.bfloat16):
        wanted = summed(torch.nn.functional.linear(hidden, weight), labels, slice(None))
        total, values = chunks.weighted_sums(hidden, weight, labels, [summed], [2.0])
    assert {*seen} == {torch.bfloat16}
    assert len(seen) == 4
    torch.testing.assert_close(values[0], wanted, rtol=1e-2, atol=0)
    for found, gradient in zip(
        torch.autograd.grad(total, (hidden, weight)),
        torch.autograd.grad(2 * wanted, (hidden, weight)),
        strict=True,
    ):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, gradient, rtol=2e-2, atol=2e-2)
