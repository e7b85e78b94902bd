from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from echo.config import RunConfig
from echo.data.batch import IGNORED
from echo.model.model import EchoOutput
from echo.support.settings import build
from echo.train.losses.base import Setup
from echo.train.losses.registry import build_losses
from tests.train.test_step import TOKENIZER

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
    found = build_losses(Setup(config, None, TOKENIZER, Accelerator()))
    found[1].special_ids, found[1].blank = SPECIAL, BLANK
    batch = SimpleNamespace(labels=labels, attention_mask=mask)
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
