"""The loss on spans: what it adds up to, however a batch is cut, and whichever layers take part."""

from types import SimpleNamespace

import pytest
import torch

from echo.config import RunConfig
from echo.data.batch import IGNORED
from echo.model.config import EchoConfig
from echo.model.model import EchoForConditionalGeneration
from echo.support.errors import ConfigError
from echo.support.settings import build
from echo.train.losses.base import Setup
from echo.train.losses.span_penalty import SpanPenalty
from echo.train.recorder import read_metrics
from echo.train.run import started_trainer
from tests.model.test_model import SIZES
from tests.train.test_loop import tiny

FRAMES = [60, 41, 30]
TOKENS = [6, 3, 5]


def penalty_of(model, penalty, rows):
    """Of some of three utterances, padded to their longest."""
    frames, tokens = max(FRAMES[i] for i in rows), max(TOKENS[i] for i in rows)
    features = torch.randn(3, 80, 60, generator=torch.Generator().manual_seed(1))
    ids = torch.arange(3, 21).view(3, 6)[rows, :tokens]
    count = torch.tensor([TOKENS[i] for i in rows])[:, None]
    mask = torch.arange(frames) < torch.tensor([FRAMES[i] for i in rows])[:, None]
    model(features[rows, :, :frames], attention_mask=mask.long(), decoder_input_ids=ids)
    labels = ids.masked_fill(torch.arange(tokens) >= count, IGNORED)
    return penalty(None, SimpleNamespace(labels=labels))


@pytest.mark.parametrize("form", ["adaptive", {"form": "adaptive", "span_per_head": True}])
def test_it_does_not_depend_on_how_a_batch_is_cut(form):
    torch.manual_seed(0)
    config = EchoConfig(**SIZES, attention={"encoder": form, "decoder": form})
    model = EchoForConditionalGeneration(config).train()
    setup = Setup(build(RunConfig, {"loss": {"span_penalty": 1}}, "test"), model, None, None)
    penalty = SpanPenalty(setup)
    found = {}
    for cut in ([[0, 1, 2]], [[0, 1], [2]], [[2], [0], [1]]):
        model.zero_grad()
        total = sum(penalty_of(model, penalty, rows) for rows in cut)
        total.backward()
        name = "model.encoder.layers.0.self_attn.span_predictor.linear.weight"
        found[len(cut)] = total.detach(), model.get_parameter(name).grad.clone()
    for total, gradient in (found[2], found[3]):
        torch.testing.assert_close(total, found[1][0])
        torch.testing.assert_close(gradient, found[1][1])
    penalty_of(model, penalty, [0])
    means = [span.mean() for span in penalty.calls.kept.values()]
    torch.testing.assert_close(penalty_of(model, penalty, [0]), 6 * torch.stack(means).mean())


@pytest.mark.slow
def test_layers_that_are_dropped_take_no_part(shared, tmp_path):
    """Some in each step, and in some steps all."""
    loss = {"span_penalty": 0.1, "alignment_weight": 0.1}
    config = tiny(shared, loss=loss, train={"accumulation": 2})
    trainer = started_trainer(config, tmp_path)
    trainer.state.unwrapped.model.encoder.layerdrop = 0.7
    trainer.state.unwrapped.model.decoder.layerdrop = 0.7
    assert trainer.train().skipped_steps == 0
    events = [e for e in read_metrics(tmp_path) if e["kind"] == "train"]
    assert len(events) == 7
    assert all({"span_penalty", "alignment_loss"} <= event.keys() for event in events)


@pytest.mark.parametrize("form", ["plain", "hybrid"])
def test_without_a_span_that_is_learned_it_is_refused(shared, tmp_path, form):
    model = {"attention": {"encoder": form, "decoder": "plain"}}
    with pytest.raises(ConfigError, match=r"loss\.span_penalty has no effect, because no block"):
        started_trainer(tiny(shared, model=model, loss={"span_penalty": 0.5}), tmp_path)
