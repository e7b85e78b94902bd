import pytest
import torch

from echo.data.batch import IGNORED
from echo.model.model import EchoOutput
from echo.train.loss import joint_loss

BLANK, END, START = 0, 1, 2
SPECIAL = torch.tensor([BLANK, END, START])


@pytest.fixture
def output():
    return EchoOutput(logits=torch.randn(2, 4, 8), ctc_logits=torch.randn(2, 9, 8))


LABELS = torch.tensor([[3, 4, 4, END], [5, END, IGNORED, IGNORED]])
MASK = (torch.arange(18) < torch.tensor([[18], [11]])).long()  # 9 and 6 encoder frames


def loss(output, ctc_weight=0.3, labels=LABELS):
    return joint_loss(output, labels, MASK, ctc_weight, 0.0, SPECIAL, BLANK)


def test_the_decoder_loss_is_the_sum_over_real_tokens(output):
    log = output.logits.log_softmax(-1)
    wanted = -(log[0, 0, 3] + log[0, 1, 4] + log[0, 2, 4] + log[0, 3, END])
    wanted -= log[1, 0, 5] + log[1, 1, END]
    found = loss(output, ctc_weight=0)
    torch.testing.assert_close(found.total, wanted)
    torch.testing.assert_close(found.decoder, wanted)


@pytest.mark.parametrize("ctc_weight", [0, 0.3])
def test_only_the_total_keeps_a_graph(output, ctc_weight):
    output.logits.requires_grad_()
    found = loss(output, ctc_weight)
    assert found.total.requires_grad
    assert not found.decoder.requires_grad
    assert not found.ctc.requires_grad


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
    found = loss(output)
    torch.testing.assert_close(found.ctc, wanted)
    torch.testing.assert_close(found.total, 0.7 * found.decoder + 0.3 * wanted)


def test_where_nobody_speaks_the_end_and_only_blanks_are_learned(output):
    empty = torch.tensor([[END, IGNORED], [END, IGNORED]])
    output.logits = output.logits[:, :2]
    blanks = output.ctc_logits.log_softmax(-1)[..., BLANK]
    found = loss(output, labels=empty)
    torch.testing.assert_close(found.ctc, -(blanks[0].sum() + blanks[1, :6].sum()))
    torch.testing.assert_close(found.decoder, -output.logits[:, 0].log_softmax(-1)[:, END].sum())


def test_a_prompt_among_the_labels_is_not_ctc_text(output):
    prompted = torch.tensor([[START, 3, 4, 4], [START, 5, END, IGNORED]])
    torch.testing.assert_close(loss(output, labels=prompted).ctc, loss(output).ctc)


def test_an_utterance_too_short_for_its_text_costs_nothing_and_harms_nothing(output):
    output.ctc_logits.requires_grad_()
    short = torch.zeros_like(MASK)
    short[:, :2] = 1  # one frame for three tokens
    found = joint_loss(output, LABELS, short, 1.0, 0.0, SPECIAL, BLANK)
    found.total.backward()
    assert torch.isfinite(found.total)
    assert torch.isfinite(output.ctc_logits.grad).all()
