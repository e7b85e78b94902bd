"""Where CTC hears each token, and the loss by which cross-attention looks there."""

from itertools import combinations, pairwise
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from echo.config import RunConfig
from echo.data.batch import IGNORED
from echo.model.config import EchoConfig
from echo.model.model import EchoForConditionalGeneration
from echo.support.errors import ConfigError
from echo.support.settings import build
from echo.train.losses.alignment import WIDTH, AlignmentLoss, ctc_alignment
from echo.train.losses.base import Setup
from echo.train.run import start_run
from tests.model.test_model import PLAIN, SIZES
from tests.train.test_loop import tiny
from tests.train.test_step import TOKENIZER

BLANK, END, START = 0, 1, 2
SPECIAL = torch.tensor([BLANK, END, START])


def paths(text, frames):
    """Every way in which CTC can write the text: the label of each frame."""
    for cuts in combinations(range(1, 2 * len(text) + frames + 1), 2 * len(text)):
        lengths = [b - a - 1 for a, b in pairwise((0, *cuts, 2 * len(text) + frames + 1))]
        if any(n < 1 for n in lengths[1::2]):
            continue
        inner = zip(text[:-1], text[1:], lengths[2:-1:2], strict=True)
        if any(a == b and n < 1 for a, b, n in inner):
            continue
        symbols = [BLANK]
        for token in text:
            symbols += [token, BLANK]
        yield [s for s, n in zip(symbols, lengths, strict=True) for _ in range(n)], lengths


@pytest.mark.parametrize("text", [[3, 4, 4], [5], [6, 3]])
def test_the_alignment_is_the_best_of_all_paths(text):
    torch.manual_seed(len(text))
    frames = 6
    log = (2 * torch.randn(1, 8, 8)).log_softmax(-1)
    labels = torch.tensor([[START, *text, END, IGNORED]])
    centres, sureness = ctc_alignment(log, labels, torch.tensor([frames]), SPECIAL, BLANK)
    best, lengths = max(
        paths(text, frames), key=lambda p: sum(log[0, t, s].item() for t, s in enumerate(p[0]))
    )
    start = 0
    spans = []
    for n in lengths:
        spans.append(range(start, start + n))
        start += n
    for place, (token, span) in enumerate(zip(text, spans[1::2], strict=True), 1):
        assert centres[0, place] == pytest.approx(sum(span) / len(span))
        expected = sum(log[0, t, token].exp().item() for t in span) / len(span)
        assert sureness[0, place].item() == pytest.approx(expected, rel=1e-5)
    assert (sureness[0, [0, -2, -1]] == 0).all()  # what is not text has no place
    assert len(best) == frames


def test_a_text_too_long_for_its_frames_counts_nothing():
    labels = torch.tensor([[3, 3, 4]])
    log = torch.randn(1, 3, 8).log_softmax(-1)
    _, sureness = ctc_alignment(log, labels, torch.tensor([3]), SPECIAL, BLANK)
    assert not sureness.any()


@pytest.mark.parametrize("positions", [False, True])
def test_the_weights_are_those_of_cross_attention(positions):
    """As `transformers` computes them with its eager attention."""
    config = EchoConfig(**SIZES, attention=PLAIN, ctc=True, cross_positions=positions)
    config._attn_implementation = "eager"
    model = EchoForConditionalGeneration(config).train()
    config = build(RunConfig, {"loss": {"alignment_weight": 1}}, "test")
    alignment = AlignmentLoss(Setup(config, model, TOKENIZER, Accelerator()))
    alignment.ctc.special_ids, alignment.ctc.blank = SPECIAL, BLANK
    mask = (torch.arange(60) < torch.tensor([[60], [41]])).long()
    ids = torch.randint(3, 60, (2, 5))
    output = model(
        torch.randn(2, 80, 60), attention_mask=mask, decoder_input_ids=ids, output_attentions=True
    )
    assert list(alignment.calls.kept) == [0, 1]
    for layer, weights in alignment.calls.kept.items():
        expected = output.cross_attentions[layer][:, :2]
        torch.testing.assert_close(weights, expected, rtol=0, atol=1e-6)

    labels = ids.clone()
    found = alignment(output, SimpleNamespace(labels=labels, attention_mask=mask))
    log = output.ctc_logits.log_softmax(-1)
    centres, sureness = ctc_alignment(log, labels, torch.tensor([30, 21]), SPECIAL, BLANK)
    expected = 0.0
    for maps in output.cross_attentions:
        for b, h, t in ((b, h, t) for b in range(2) for h in range(2) for t in range(5)):
            near = sum(
                maps[b, h, t, f] * 2.718281828 ** (-(((f - centres[b, t]) / WIDTH) ** 2) / 2)
                for f in range(30)
            )
            expected -= sureness[b, t] * near.log() / 4
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    found.backward()
    assert model.model.decoder.layers[0].encoder_attn.k_proj.weight.grad.abs().max() > 0
    assert model.ctc_head.weight.grad is None  # the head teaches and is not taught


def test_it_needs_a_ctc_head_that_is_trained(shared, tmp_path):
    config = tiny(shared, loss={"ctc_weight": 0, "alignment_weight": 0.3})
    with pytest.raises(ConfigError, match="alignment_weight needs a trained CTC head"):
        start_run(config, tmp_path)
