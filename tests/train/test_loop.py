"""Training on real recordings, with a tiny model: what is learned from, saved and resumed."""

import json
from dataclasses import replace
from itertools import islice

import pytest
import torch
from safetensors.torch import load_file

from echo.checkpoints.run import CheckpointFolder
from echo.config import RunConfig
from echo.data.audio import AudioFile
from echo.data.build import build_corpus
from echo.data.examples import ExampleReader
from echo.data.loading import evaluation_batches
from echo.data.utterance import FixedCorpus
from echo.model.geometry import Limits
from echo.support.errors import ConfigError, DataError, EchoError
from echo.support.settings import build, merge
from echo.train.build import build_model, build_tokenizer
from echo.train.loop import Trainer
from echo.train.recorder import read_metrics
from echo.train.run import new_trainer, resume_run, start_run
from echo.train.step import TrainStep

TINY = {
    "model": {
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 1,
        "heads": 2,
        "dropout": 0.1,
        "max_seconds": 10,
        "max_tokens": 40,
    },
    "data": {"corpus": "fsdd", "workers": 0, "max_batch_seconds": 6, "max_batch_size": 4},
    "train": {
        "max_steps": 7,
        "warmup_steps": 2,
        "log_every": 1,
        "eval_every": 100,
        "eval_utterances": 2,
        "checkpoint_every": 3,
    },
}


@pytest.fixture
def config(shared):
    return tiny(shared)


def tiny(shared, **changes):
    root = {"data": {"root": str(shared / "data" / "fsdd")}}
    return build(RunConfig, merge(merge(TINY, root), changes), "test")


def losses(run):
    return [e["loss"] for e in read_metrics(run) if e["kind"] == "train"]


def weights(run, which="last"):
    return load_file(CheckpointFolder(run).path(which) / "model.safetensors")


def assert_same_run(one, other):
    """To the bit, in every loss and every weight."""
    assert losses(one) == losses(other)
    expected, found = weights(one), weights(other)
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.equal(expected[name], found[name]), name


@pytest.mark.parametrize("gain", [0, None])
@pytest.mark.parametrize("form", ["adaptive", "hybrid", "focus"])
def test_models_of_one_seed_differ_by_their_local_branches_alone(shared, form, gain):
    """So a comparison does not depend on the luck of the first weights. From scratch the local
    branch takes part from the first step; without a gain nothing differs."""
    found = []
    for attention in ("plain", {"form": form, "local_gain": gain}):
        config = tiny(shared, model={"attention": {"encoder": attention, "decoder": attention}})
        corpus = build_corpus(config.data, config.seed)
        tokenizer = build_tokenizer(config, corpus.train_epoch(0))
        torch.manual_seed(5)
        model = build_model(config, tokenizer).eval()
        features = torch.randn(1, 80, 120, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            found.append(model(features, decoder_input_ids=torch.tensor([[1, 5, 6]])))
    whisper, echo = found
    if gain == 0:
        torch.testing.assert_close(echo.logits, whisper.logits, rtol=0, atol=1e-5)
        torch.testing.assert_close(echo.ctc_logits, whisper.ctc_logits, rtol=0, atol=1e-5)
    else:
        assert (echo.ctc_logits - whisper.ctc_logits).abs().max() > 0.01


def test_first_weights_do_not_depend_on_the_size_of_other_layers(shared):
    """A control with wider layers would otherwise have other luck."""
    found = []
    encoder = {"form": "convolution"}
    for width, seed in ((64, 5), (72, 5), (64, 6)):
        config = tiny(shared, model={"ffn_dim": width, "attention": {"encoder": encoder}})
        tokenizer = build_tokenizer(config, build_corpus(config.data, config.seed).train_epoch(0))
        torch.manual_seed(seed)
        found.append(build_model(config, tokenizer).state_dict())
    one, wider, other = found
    shared_names = {name for name in one if one[name].shape == wider[name].shape}
    assert {name for name in one if ".fc" not in name} <= shared_names
    for name in shared_names:
        assert torch.equal(one[name], wider[name]), name
    same = {"model.encoder.embed_positions.weight"}  # sinusoids
    same |= {name for name, weight in one.items() if (weight == weight.flatten()[0]).all()}
    assert not any(name.endswith("kernel") for name in same)
    assert not any(torch.equal(one[name], other[name]) for name in one.keys() - same)


class StopError(Exception):
    """Stands for whatever ends a run."""


def stop_after(monkeypatch, steps):
    step = TrainStep.__call__

    def failing(self, batches):
        if self.state.progress.step == steps:
            raise StopError
        return step(self, batches)

    monkeypatch.setattr(TrainStep, "__call__", failing)


def assert_resumes_exactly(config, folder, monkeypatch, steps):
    """A run that ends after some steps and is resumed is the run that never ended."""
    start_run(config, folder / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        with pytest.raises(StopError):
            start_run(config, folder / "broken")
    resume_run(folder / "broken")
    assert_same_run(folder / "broken", folder / "whole")


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_resumed_run_is_the_unbroken_run(shared, tmp_path, monkeypatch, accumulation):
    """Mid-epoch, with dropout: every loss and every weight is the same to the bit."""
    config = tiny(shared, train={"accumulation": accumulation})
    start_run(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(StopError):
            start_run(config, tmp_path / "broken")
    assert CheckpointFolder(tmp_path / "broken").load()[1]["progress"]["step"] == 3
    torch.manual_seed(99)  # a new process would have other numbers to draw
    progress = resume_run(tmp_path / "broken")
    assert progress.step == 7
    assert_same_run(tmp_path / "broken", tmp_path / "whole")


def test_a_step_takes_as_many_batches_as_it_accumulates(shared, tmp_path):
    """In their order: two steps of three are six of one."""

    def taken(accumulation, steps):
        config = tiny(shared, train={"accumulation": accumulation})
        trainer = new_trainer(config, tmp_path, build_corpus(config.data, config.seed))
        return [*islice(trainer.batches(), steps)]

    def ids(step):
        return [[utterance.id for utterance in batch.utterances] for batch in step.own]

    alone = [batch for step in taken(1, 6) for batch in ids(step)]
    together = taken(3, 2)
    assert [ids(step) for step in together] == [alone[:3], alone[3:]]
    assert [step.utterances for step in together] == [
        sum(map(len, part)) for part in (alone[:3], alone[3:])
    ]


def test_metrics_are_written_after_so_many_steps_and_at_the_end(shared, tmp_path):
    start_run(tiny(shared, train={"log_every": 3}), tmp_path)
    assert [e["step"] for e in read_metrics(tmp_path) if e["kind"] == "train"] == [3, 6, 7]


@pytest.mark.parametrize("optimiser", ["adafactor", "muon"])
def test_a_run_with_another_optimiser_is_resumed_exactly(shared, tmp_path, monkeypatch, optimiser):
    config = tiny(shared, train={"optimiser": optimiser, "max_steps": 5})
    assert_resumes_exactly(config, tmp_path, monkeypatch, 4)


def test_gradient_checkpointing_changes_nothing(shared, tmp_path):
    """With focused blocks, a refiner, dropout, and losses on what hooks remember of a layer."""
    attention = {"encoder": {"form": "focus", "refiner": True}, "decoder": "adaptive"}
    rest = {"loss": {"alignment_weight": 0.3, "span_penalty": 0.1}, "train": {"max_steps": 4}}
    changes = {"model": {"attention": attention}, **rest}
    start_run(tiny(shared, **changes), tmp_path / "kept")
    again = tiny(shared, **merge(changes, {"train": {"gradient_checkpointing": True}}))
    layers = []
    with pytest.MonkeyPatch.context() as patch:
        checkpoint = torch.utils.checkpoint.checkpoint
        patch.setattr(
            "transformers.modeling_utils.checkpoint",
            lambda *args, **rest: layers.append(1) or checkpoint(*args, **rest),
        )
        start_run(again, tmp_path / "again")
    assert len(layers) == 4 * 3  # steps by layers
    assert losses(tmp_path / "again") == pytest.approx(losses(tmp_path / "kept"), rel=1e-5)
    one, other = weights(tmp_path / "kept"), weights(tmp_path / "again")
    for name in one:
        torch.testing.assert_close(other[name], one[name], msg=name)


def test_a_run_with_a_cache_is_the_run_without(shared, tmp_path):
    """While it is filled, and when it is full: every loss and every weight to the bit."""
    folder = shared / "data" / "speechocean762"
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()[:6]]
    for row in rows:
        row["audio_filepath"] = str(folder / row["audio_filepath"])
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"train": str(manifest), "eval": str(manifest), "allow_outside": True}
    data = {"corpus": None, "root": None, **source}
    runs = {"without": {}, "filling": {"workers": 1}, "full": {}}
    for name, changes in runs.items():
        if name != "without":
            changes["cache"] = str(tmp_path / "cache")
        config = tiny(shared, data={**data, **changes}, train={"max_steps": 6})
        start_run(config, tmp_path / name)
    assert len(list((tmp_path / "cache").rglob("*.f32"))) == 6
    for name in ("filling", "full"):
        assert losses(tmp_path / name) == losses(tmp_path / "without")
        found, wanted = weights(tmp_path / name), weights(tmp_path / "without")
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_training_lowers_the_loss(shared, tmp_path):
    config = tiny(shared, train={"max_steps": 40, "learning_rate": 3e-3, "checkpoint_every": 100})
    start_run(config, tmp_path / "run")
    found = losses(tmp_path / "run")
    assert sum(found[-5:]) < 0.7 * sum(found[:5])


def test_accumulated_batches_count_by_their_tokens(config, tmp_path):
    """Two batches of unequal size move the weights as the one batch of all their utterances."""
    corpus = build_corpus(config.data, 1)
    tokenizer = build_tokenizer(config, corpus.train_epoch(0))
    config = replace(config, model=replace(config.model, dropout=0.0))
    utterances = corpus.eval_utterances()[:5]
    gradients = []
    for groups in ([utterances], [utterances[:1], utterances[1:]]):
        torch.manual_seed(0)
        model = build_model(config, tokenizer).train()
        trainer = Trainer(config, tmp_path, corpus, model, tokenizer)
        reader = ExampleReader(tokenizer, Limits.of(model.config))
        batches = [b for group in groups for b in evaluation_batches(group, reader, 60)]
        tokens = sum((b.labels >= 0).sum() for b in batches)
        for batch in batches:
            trainer.step.backward(batch, tokens)
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-5)


def test_only_matrices_decay(config, tmp_path):
    corpus = build_corpus(config.data, 1)
    tokenizer = build_tokenizer(config, corpus.train_epoch(0))
    trainer = Trainer(config, tmp_path, corpus, build_model(config, tokenizer), tokenizer)
    for group in trainer.state.optimiser.param_groups:
        assert group["params"]
        assert all((p.ndim >= 2) == (group["weight_decay"] > 0) for p in group["params"])


def test_a_span_penalty_shortens_the_spans(shared, tmp_path):
    spans = {}
    for penalty in (0.0, 30.0):
        changes = {"loss": {"span_penalty": penalty}, "train": {"max_steps": 25}}
        run = tmp_path / str(penalty)
        start_run(tiny(shared, **changes), run)
        last = [e for e in read_metrics(run) if e["kind"] == "train"][-1]
        spans[penalty] = [v for k, v in last.items() if k.startswith("span/")]
        assert len(spans[penalty]) == 2
    assert max(spans[30.0]) < 0.8 * min(spans[0.0])


def test_a_run_can_start_from_a_checkpoint(shared, tmp_path):
    """With its tokenizer and weights: from another run, and from Whisper."""
    start_run(tiny(shared, train={"max_steps": 2}), tmp_path / "first")
    changes = {"init": str(tmp_path / "first"), "train": {"max_steps": 1, "learning_rate": 0.0}}
    start_run(tiny(shared, **changes), tmp_path / "second")
    first, second = weights(tmp_path / "first"), weights(tmp_path / "second")
    assert all(torch.equal(first[name], second[name]) for name in first)

    whisper = tiny(
        shared,
        init=str(shared / "models" / "whisper-tiny.en"),
        model=None,
        train={"max_steps": 1, "eval_utterances": 1},
    )
    assert start_run(whisper, tmp_path / "third").step == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_a_recording_found_bad_in_training_stops_the_run_or_is_skipped(shared, tmp_path, workers):
    """By one sentence, also where a worker found it; the run stays to be resumed."""
    corpus = build_corpus(tiny(shared).data, 1)
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF nothing of the kind")
    bad = replace(corpus.train_epoch(0)[0], audio=AudioFile(broken))
    bad_corpus = FixedCorpus([bad, *corpus.train_epoch(0)[1:9]], corpus.eval_utterances())
    with pytest.raises(DataError, match=r"broken.wav: cannot be read") as caught:
        start_run(tiny(shared, data={"workers": workers}), tmp_path / "stops", bad_corpus)
    assert "\n" not in str(caught.value)
    config = tiny(shared, data={"workers": workers, "on_error": "skip"})
    progress = start_run(config, tmp_path / "skips", bad_corpus)
    assert progress.step == 7
    assert progress.skipped >= 1


def test_a_folder_that_holds_a_run_is_not_overwritten(config, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("seed: 5")
    with pytest.raises(ConfigError, match="run: holds another run; resume it with"):
        start_run(config, run)
    assert (run / "config.yaml").read_text() == "seed: 5"
    with pytest.raises(EchoError, match="holds no last checkpoint yet"):
        CheckpointFolder(run).path("last")
    with pytest.raises(ConfigError, match="is not a run folder"):
        resume_run(tmp_path)


def test_metrics_lines_are_json_and_tensorboard_has_them_too(config, tmp_path):
    run = tmp_path / "run"
    start_run(config, run)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [e["step"] for e in lines if e["kind"] == "train"] == list(range(1, 8))
    assert [e["step"] for e in lines if e["kind"] == "eval"] == [7]
    assert all(0 < e["data_wait"] < 1 for e in lines if e["kind"] == "train")
    assert any((run / "tensorboard").iterdir())
