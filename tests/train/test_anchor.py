"""The divergence from the starting model: against the same computed token by token, and in runs."""

import copy

import pytest
import torch

from echo.config import RunConfig
from echo.data.batch import IGNORED
from echo.support.errors import ConfigError
from echo.support.settings import build, merge
from echo.train.build import build_model
from echo.train.loop import Trainer
from echo.train.recorder import read_metrics
from echo.train.run import start_run
from tests.train.test_loop import assert_resumes_exactly, tiny
from tests.train.test_step import CONFIG, LABELS, TOKENIZER, TOKENS, make_batch

WEIGHT = 0.7


@pytest.fixture
def models():
    """The starting model, which has dropout, and another that is trained."""
    config = build(RunConfig, merge(CONFIG, {"model": {"dropout": 0.5}}), "test")
    start = build_model(config, TOKENIZER).train()
    torch.manual_seed(1)
    trained = build_model(config, TOKENIZER).train()
    for module in trained.modules():
        if hasattr(module, "dropout"):
            module.dropout = 0.0
    return start, trained


def log_probabilities(model, batch):
    logits = model(
        batch.input_features,
        attention_mask=batch.attention_mask,
        decoder_input_ids=batch.decoder_input_ids,
    ).logits
    return logits.double() - logits.double().exp().sum(-1, keepdim=True).log()


def test_it_is_the_divergence_at_real_tokens_alone(tmp_path, models):
    start, trained = models
    batch = make_batch()
    with torch.no_grad():
        before = log_probabilities(copy.deepcopy(start).eval(), batch)
    after = log_probabilities(trained, batch)
    divergence = cross_entropy = 0.0
    for row, labels in enumerate(LABELS.tolist()):
        for place, label in enumerate(labels):
            if label != IGNORED:
                p, log_p, log_q = before[row, place].exp(), before[row, place], after[row, place]
                divergence += (p * (log_p - log_q)).sum() / TOKENS
                cross_entropy -= log_q[label] / TOKENS
    parameters = [p for p in trained.parameters() if p.requires_grad]
    expected = torch.autograd.grad(
        cross_entropy + WEIGHT * divergence, parameters, allow_unused=True
    )
    kept = copy.deepcopy(start.state_dict())

    config = build(RunConfig, merge(CONFIG, {"loss": {"anchor_kl": WEIGHT}}), "test")
    trainer = Trainer(config, tmp_path, None, trained, TOKENIZER, start=start)
    trainer.config.train.__dict__["max_grad_norm"] = 1e9
    values = trainer.step.accumulate([batch])
    assert values["anchor_kl"].item() == pytest.approx(divergence.item(), rel=1e-4)
    assert values["loss"].item() == pytest.approx(cross_entropy.item(), rel=1e-4)
    for parameter, gradient in zip(parameters, expected, strict=True):
        if gradient is not None:
            torch.testing.assert_close(parameter.grad, gradient.to(parameter.dtype))
    assert all(parameter.grad is None for parameter in start.parameters())
    assert not start.training
    trainer.state.optimiser.step()
    assert all(torch.equal(kept[name], value) for name, value in start.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_a_resumed_run_has_the_start_that_it_had(shared, tmp_path, monkeypatch, lora):
    start_run(tiny(shared, train={"max_steps": 1}), tmp_path / "start")
    init = {"init": str(tmp_path / "start"), "lora": lora}

    config = tiny(shared, **init, loss={"ctc_weight": 0.3, "anchor_kl": 3.0})
    assert_resumes_exactly(config, tmp_path, monkeypatch, 5)
    found = [e["anchor_kl"] for e in read_metrics(tmp_path / "whole") if e["kind"] == "train"]
    assert len(found) == 7
    assert min(found) > 0


def test_a_model_from_scratch_has_no_start_to_stay_near(shared, tmp_path):
    with pytest.raises(ConfigError, match="anchor_kl needs init"):
        start_run(tiny(shared, loss={"anchor_kl": 0.1}), tmp_path)
