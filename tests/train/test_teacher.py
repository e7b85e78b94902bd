"""Learning from a teacher: its divergence against the same computed token by token, and in runs."""

import pytest
import torch

from echo.checkpoints.convert import convert
from echo.checkpoints.load import load_model
from echo.config import RunConfig
from echo.data.batch import IGNORED
from echo.data.tokenizer import train_tokenizer
from echo.support.errors import ConfigError
from echo.support.settings import build, merge
from echo.train.loop import Trainer
from echo.train.losses.base import Setup
from echo.train.losses.teacher import TeacherLoss, load_teacher
from echo.train.recorder import read_metrics
from echo.train.run import start_run
from echo.train.step import forward
from tests.small_whisper import SIZES, save_whisper, small_whisper
from tests.train.test_loop import assert_resumes_exactly, tiny
from tests.train.test_step import CONFIG, LABELS, TOKENS, make_batch

PLAIN = ["attention.encoder=plain", "attention.decoder=plain"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    torch.manual_seed(1)
    return save_whisper(small_whisper(), tmp_path_factory.mktemp("teacher") / "teacher")


@pytest.fixture(scope="module")
def student(teacher, tmp_path_factory):
    """Of the teacher's last decoder layer."""
    folder = tmp_path_factory.mktemp("student") / "student"
    convert(teacher, folder, PLAIN, layers={"decoder": 1})
    return folder


def trainer_of(tmp_path, init, teacher, **changes):
    content = {"init": "any", "train": {"max_grad_norm": 1e9}, "loss": {"teacher": teacher}}
    config = build(RunConfig, merge(merge(CONFIG, content), changes), "test")
    loaded = load_model(init)
    return Trainer(config, tmp_path, None, loaded.model.train(), loaded.tokenizer)


def teacher_loss(trainer):
    return next(loss for loss in trainer.step.losses if isinstance(loss, TeacherLoss))


@pytest.mark.parametrize("frozen", [[], ["encoder"]])
@pytest.mark.parametrize("temperature", [1, 2.5])
def test_it_is_the_divergence_at_real_tokens_at_a_temperature(
    tmp_path, teacher, student, temperature, frozen
):
    batch, model = make_batch(), load_model(teacher).model
    settings = {"model": str(teacher), "weight": 0.5, "temperature": temperature}
    trainer = trainer_of(tmp_path, student, settings, train={"freeze": frozen})
    with torch.no_grad():
        wanted = forward(model, batch).logits.double() / temperature
    trained = forward(trainer.state.model, batch).logits
    found = trained.double() / temperature
    divergence = cross_entropy = 0.0
    for row, labels in enumerate(LABELS.tolist()):
        for place, label in enumerate(labels):
            if label != IGNORED:
                log_p, log_q = wanted[row, place].log_softmax(-1), found[row, place].log_softmax(-1)
                divergence += temperature**2 * (log_p.exp() * (log_p - log_q)).sum() / TOKENS
                cross_entropy -= trained[row, place].log_softmax(-1)[label] / TOKENS
    parameters = [p for p in trainer.state.model.parameters() if p.requires_grad]
    expected = torch.autograd.grad(cross_entropy + 0.5 * divergence, parameters, allow_unused=True)
    before = [p.clone() for p in teacher_loss(trainer).model.parameters()]
    values = trainer.step.accumulate([batch])
    assert values["teacher_kl"].item() == pytest.approx(divergence.item(), rel=1e-4)
    assert values["loss"].item() == pytest.approx(cross_entropy.item(), rel=1e-4)
    for parameter, gradient in zip(parameters, expected, strict=True):
        if gradient is not None:
            torch.testing.assert_close(parameter.grad, gradient.float(), rtol=1e-3, atol=1e-5)
    trainer.state.optimiser.step()
    own = teacher_loss(trainer).model
    assert not own.training
    assert all(p.grad is None and not p.requires_grad for p in own.parameters())
    assert all(torch.equal(*pair) for pair in zip(before, own.parameters(), strict=True))


@pytest.mark.parametrize("frozen", [[], ["encoder"]])
def test_a_model_has_nothing_to_learn_from_itself(tmp_path, teacher, frozen):
    settings = {"model": str(teacher)}
    trainer = trainer_of(tmp_path, teacher, settings, train={"freeze": frozen})
    assert 0 <= trainer.step.accumulate([make_batch()])["teacher_kl"] < 1e-6


def test_an_encoder_is_shared_only_where_it_stays_equal(tmp_path, teacher, student):
    """Where it is, the teacher holds none, and none runs a second time."""

    def shares(init=student, change=None, **changes):
        content = {"init": "any", "loss": {"teacher": {"model": str(teacher)}}}
        loaded = load_model(init)
        if change:
            change(loaded.model)
        config = build(RunConfig, merge(merge(CONFIG, content), changes), "test")
        loss = teacher_loss(Trainer(config, tmp_path, None, loaded.model, loaded.tokenizer))
        assert len(loss.model.model.encoder.layers) == (0 if loss.shares_encoder else 2)
        return loss.shares_encoder

    def move(model):
        model.model.encoder.layers[1].fc1.weight.data[0, 0] += 1e-3

    frozen = {"train": {"freeze": ["encoder"]}}
    assert shares(**frozen)
    assert not shares()
    assert not shares(train={"freeze": ["encoder.layers", "encoder.conv1"]})
    assert not shares(change=move, **frozen)
    assert not shares(change=lambda model: setattr(model.config, "dropout", 0.1), **frozen)
    assert shares(lora={"rank": 2, "targets": ["proj_out"]})
    assert not shares(lora={"rank": 2})


@pytest.mark.parametrize(
    ("sizes", "problem"),
    [
        ({"vocab_size": SIZES["vocab_size"] + 1}, "has other tokens"),
        ({"num_mel_bins": 128}, "hears 128 mel bands, and the model that is trained 80"),
        ({"max_source_positions": 50}, "hears at most 1 s, and the model that is trained 2 s"),
        ({"max_target_positions": 30}, "reads at most 30 tokens, and the model that is trained 32"),
    ],
)
def test_what_cannot_teach_is_named(tmp_path, student, sizes, problem):
    folder = save_whisper(small_whisper(**sizes), tmp_path / "other")
    with pytest.raises(ConfigError, match=rf"loss\.teacher\.model: {folder} {problem}"):
        trainer_of(tmp_path, student, {"model": str(folder)})


def test_a_teacher_has_the_same_words(tmp_path, teacher, student):
    """Also where it has as many."""
    trainer = trainer_of(tmp_path, student, {"model": str(teacher)})
    setup = Setup(trainer.config, trainer.state.unwrapped, train_tokenizer(["z"]), None)
    with pytest.raises(ConfigError, match="has other tokens"):
        load_teacher(str(teacher), setup)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_a_resumed_run_has_the_teacher_that_it_had(shared, tmp_path, monkeypatch, lora):
    start_run(tiny(shared, train={"max_steps": 1}), tmp_path / "teacher")
    init = {"init": str(tmp_path / "teacher"), "lora": lora}
    teacher = {"model": str(tmp_path / "teacher"), "temperature": 3}
    config = tiny(shared, **init, loss={"ctc_weight": 0.3, "teacher": teacher})
    assert_resumes_exactly(config, tmp_path, monkeypatch, 5)
    found = [e["teacher_kl"] for e in read_metrics(tmp_path / "whole") if e["kind"] == "train"]
    assert len(found) == 7
    assert min(found) > 0
