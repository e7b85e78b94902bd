"""A CTC head with tokens of its own: what it learns, and that it stays with its model."""

import copy
import json

import pytest
import torch

from echo.checkpoints.load import load_model
from echo.checkpoints.merge import merge_models
from echo.checkpoints.run import CheckpointFolder, save_model
from echo.config import DecodeSettings, load_config
from echo.data.batch import Collator
from echo.data.build import build_corpus
from echo.data.examples import ExampleReader
from echo.data.tokenizer import SPECIAL_TOKENS, ctc_tokenizer, text_ids
from echo.evaluate.evaluation import evaluate_model
from echo.model.model import EchoForConditionalGeneration
from echo.support.errors import ConfigError, DataError
from echo.train.run import start_run, started_trainer
from tests.train.test_loop import assert_resumes_exactly, tiny, weights

ALONE = {"train": {"freeze": ["model"], "learning_rate": 1e-2}, "loss": {"ctc_weight": 1.0}}
BPE = {"ctc": {"tokenizer": "bpe", "size": 270, "layers": "mean"}}


@pytest.fixture(scope="module")
def start(shared, tmp_path_factory):
    """A model without a CTC head."""
    run = tmp_path_factory.mktemp("start")
    start_run(tiny(shared, loss={"ctc_weight": 0}, train={"max_steps": 2}), run)
    return run


def with_head(shared, start, **changes):
    return tiny(shared, init=str(start), **{"loss": {"ctc_weight": 0.3}, **changes})


@pytest.fixture(scope="module")
def headed(shared, start, tmp_path_factory):
    """A run that trained a head of characters alone."""
    run = tmp_path_factory.mktemp("headed")
    start_run(with_head(shared, start, **ALONE), run)
    return run


def test_a_head_alone_learns_the_letters_and_leaves_the_model_as_it_is(shared, start, headed):
    before, after = weights(start), weights(headed)
    assert after.keys() - before.keys() == {"ctc_head.weight", "ctc_head.bias"}
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())
    config = load_model(str(headed), "last").model.config
    texts = [u.text for u in build_corpus(tiny(shared).data, 1).train_epoch(0)]
    letters = {c for text in texts for c in text} | {" "}
    assert config.ctc_size == len(letters) + len(SPECIAL_TOKENS) == len(after["ctc_head.weight"])
    tokenizer = ctc_tokenizer(config, None)
    assert {tokenizer.decode([i]) for i in range(len(letters))} == letters
    assert load_config(headed / "config.yaml").model.ctc.tokenizer == "characters"


@pytest.mark.parametrize(
    "changes",
    [ALONE, {"model": BPE, "lora": {"rank": 2}, "train": {"ema_decay": 0.5}}],
    ids=["alone", "bpe, mean of layers, lora"],
)
def test_a_resumed_run_is_the_unbroken_one(shared, start, tmp_path, monkeypatch, changes):
    config = with_head(shared, start, **changes)
    assert_resumes_exactly(config, tmp_path, monkeypatch, 5)
    new = EchoForConditionalGeneration(load_model(str(tmp_path / "whole"), "last").model.config)
    trained = weights(tmp_path / "whole")
    for name, weight in new.ctc_head.named_parameters():
        assert trained[f"ctc_head.{name}"].shape == weight.shape
        assert not torch.equal(trained[f"ctc_head.{name}"], weight)
    again = with_head(shared, tmp_path / "whole", train={"max_steps": 1})  # goes on with its head
    start_run(again, tmp_path / "again")
    assert weights(tmp_path / "again").keys() == trained.keys()


def test_a_saved_model_hears_what_it_heard(headed, tmp_path):
    loaded = load_model(str(headed), "last")
    loaded.model.save_pretrained(tmp_path)
    again = EchoForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert again.config.ctc_vocabulary == loaded.model.config.ctc_vocabulary
    features = torch.randn(2, 80, 60)
    with torch.no_grad():
        heard = [m(features, encoder_only=True).ctc_logits for m in (loaded.model, again)]
        whole = loaded.model(features, decoder_input_ids=torch.zeros(2, 1, dtype=torch.long))
    assert torch.equal(*heard)
    torch.testing.assert_close(heard[0], whole.ctc_logits)


@pytest.mark.parametrize("model", [{}, BPE])
def test_the_loss_is_that_of_the_text_in_the_heads_tokens(shared, start, tmp_path, model):
    trainer = started_trainer(with_head(shared, start, model=model), tmp_path)
    unwrapped = trainer.state.unwrapped.eval()
    utterances = build_corpus(trainer.config.data, 1).train_epoch(0)[:3]
    batch = Collator(0)([trainer.reader.read(u) for u in utterances])
    found = trainer.step.objective(batch)[1][1]
    tokenizer = ctc_tokenizer(unwrapped.config, None)
    wanted = 0.0
    for row, utterance in enumerate(batch.utterances):
        ids = tokenizer(f" {utterance.text}", add_special_tokens=False).input_ids
        frames = int(batch.attention_mask[row].sum())
        with torch.no_grad():
            features = batch.input_features[row : row + 1, :, :frames]
            log = unwrapped(features, encoder_only=True).ctc_logits.log_softmax(-1)
        wanted += torch.nn.functional.ctc_loss(
            log[0][:, None],
            torch.tensor([ids]),
            torch.tensor([log.shape[1]]),
            torch.tensor([len(ids)]),
            blank=tokenizer.pad_token_id,
            reduction="sum",
        )
    torch.testing.assert_close(found.detach(), wanted, rtol=1e-4, atol=1e-3)


def test_letters_that_the_head_lacks_cost_no_utterance(headed):
    """They are written in their other case, or left out; the decoder has them."""
    loaded = load_model(str(headed), "last")
    tokenizer = loaded.ctc_tokenizer
    assert tokenizer.decode(text_ids(tokenizer, " Seven, 7 one.")) == " seven  one"
    reader = ExampleReader.of(loaded.model, loaded.tokenizer)
    utterance = build_corpus(load_config(headed / "config.yaml").data, 1).train_epoch(0)[0]
    assert reader.read(utterance).ctc_tokens == text_ids(tokenizer, f" {utterance.text}")


def test_evaluations_tell_what_the_head_hears(headed, shared):
    loaded = load_model(str(headed), "last")
    config = load_config(headed / "config.yaml")
    utterances = build_corpus(config.data, 1).eval_utterances()[:4]
    alone = evaluate_model(loaded, utterances, DecodeSettings(ctc_alone=True))
    letters = {c for text in alone.transcripts.texts for c in text}
    assert letters <= {*loaded.ctc_tokenizer.get_vocab(), " "}
    joint = evaluate_model(loaded, utterances)
    assert joint.transcripts.times.keys() <= {u.id for u in utterances}


def test_merging_keeps_the_head(start, headed, tmp_path):
    folders = [str(CheckpointFolder(run).path("last")) for run in (start, headed)]
    own = weights(headed)
    for shares in ([0.5, 0.5], [0.0, 1.0]):
        merge_models(folders, shares, out := tmp_path / str(shares[0]))
        merged = load_model(str(out)).model
        for name in ("weight", "bias"):
            torch.testing.assert_close(merged.ctc_head.get_parameter(name), own[f"ctc_head.{name}"])
    merge_models(folders, [1.0, 0.0], tmp_path / "1.0")
    assert not load_model(str(tmp_path / "1.0")).model.config.ctc  # it hears another encoder
    path = tmp_path / "0.5" / "config.json"
    other = copy.deepcopy(content := json.loads(path.read_text()))
    other["ctc_vocabulary"]["vocab"] = dict(
        zip(
            content["ctc_vocabulary"]["vocab"],
            range(merged.config.ctc_size - 1, -1, -1),
            strict=True,
        )
    )
    path.write_text(json.dumps(other))
    with pytest.raises(DataError, match="their CTC heads have different tokens"):
        merge_models([str(tmp_path / "0.5"), folders[1]], [0.5, 0.5], tmp_path / "none")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": {"ctc_weight": 0}, "model": {"ctc": {}}}, "model.ctc has no effect"),
        ({"model": {"ctc": {"layers": "mean"}}}, "model.ctc is CtcSettings.* has no effect"),
        ({"loss": {"ctc_weight": 0.5, "alignment_weight": 1}}, "the model's has its own"),
    ],
)
def test_settings_that_do_not_fit_the_head_are_refused(shared, headed, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        start_run(with_head(shared, headed, **changes), tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"vocab": {"a": 0, "b": 2}}, "config.json: .*ctc_vocabulary has no vocab"),
        ({"merges": [["x"]]}, "ctc_vocabulary makes no tokenizer"),
    ],
)
def test_a_damaged_vocabulary_is_named(headed, tmp_path, damage, message):
    loaded = load_model(str(headed), "last")
    save_model(loaded.model, loaded.tokenizer, tmp_path)
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    content["ctc_vocabulary"].update(damage)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        _ = load_model(str(tmp_path)).ctc_tokenizer


def test_from_scratch_the_head_may_have_tokens_of_its_own(shared, tmp_path):
    tokens = {"tokenizer": {"kind": "bpe", "size": 262}, "model": {"ctc": {}}}
    start_run(tiny(shared, **tokens, train={"max_steps": 1}), tmp_path)
    loaded = load_model(str(tmp_path), "last")
    assert len(loaded.ctc_tokenizer) < len(loaded.tokenizer) == loaded.model.config.vocab_size
