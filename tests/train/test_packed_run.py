"""Runs whose utterances are joined into windows."""

import shutil
from itertools import islice
from pathlib import Path

import pytest
import torch

from echo.checkpoints.run import CheckpointFolder, Progress
from echo.config import RunConfig
from echo.data.build import build_corpus
from echo.data.packing import parts_of
from echo.model.model import EchoOutput
from echo.support.errors import ConfigError
from echo.support.settings import build, merge
from echo.train.find_batch import Probe
from echo.train.run import new_trainer, resume_run, start_run
from echo.train.start import starting_point
from echo.train.step import Skipped
from tests.data.recordings import tone, write, write_manifest
from tests.small_multilingual import save_multilingual
from tests.train.test_loop import StopError, assert_same_run, stop_after

GONE = [3, 5, *range(0, 20, 2)]  # some windows lose a part and some all


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """Of windows of 6 s."""
    folder = tmp_path_factory.mktemp("whisper")
    return save_multilingual(folder, max_source_positions=300, max_target_positions=60)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Ten of each of two speakers."""
    folder = tmp_path_factory.mktemp("recordings")
    rows = []
    for number in range(20):
        seconds = 1 + number % 3 / 2
        name = write(folder / f"{number}.wav", tone(seconds)).name
        rows.append(
            {
                "audio_filepath": name,
                "text": f"fox {number}",
                "duration": seconds,
                "speaker": f"{number % 2}",
                "name": f"{number}",
            }
        )
    return write_manifest(folder / "train.jsonl", *rows)


def settings(whisper, recordings, **changes):
    content = {
        "init": str(whisper),
        "data": {
            "train": recordings,
            "eval": recordings,
            "workers": 0,
            "language": "en",
            "max_batch_seconds": 12,
            "pack": {"seconds": 6, "share": 0.8, "prompt_share": 0.5},
        },
        "train": {
            "max_steps": 7,
            "warmup_steps": 2,
            "log_every": 1,
            "checkpoint_every": 3,
            "eval_every": 100,
            "eval_utterances": 1,
        },
    }
    return build(RunConfig, merge(content, changes), "test")


def test_a_resumed_run_is_the_unbroken_run(whisper, recordings, tmp_path, monkeypatch):
    """Over the end of an epoch and in the middle of one, to the bit."""
    config = settings(whisper, recordings)
    start_run(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(StopError):
            start_run(config, tmp_path / "broken")
    progress = Progress.from_dict(CheckpointFolder(tmp_path / "broken").load()[1]["progress"])
    assert progress.step == 3
    torch.manual_seed(99)
    assert resume_run(tmp_path / "broken").step == 7
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.parametrize(("gone", "workers"), [([], 0), (GONE, 0), (GONE, 1)])
def test_utterances_are_counted_one_by_one_and_not_as_windows(
    whisper, recordings, tmp_path, gone, workers
):
    """An epoch has as many as the data, those that cannot be read among them."""
    folder = shutil.copytree(Path(recordings).parent, tmp_path / "recordings")
    data = {"on_error": "skip", "workers": workers, "pack": {"share": 1.0}}
    config = settings(whisper, str(folder / Path(recordings).name), data=data)
    trainer = new_trainer(config, tmp_path / "run", build_corpus(config.data, config.seed))
    for number in gone:
        (folder / f"{number}.wav").unlink()
    batches = trainer.batches()
    while trainer.progress.position.epoch == 0:
        trainer.count(taken := next(batches), Skipped.NUMBERS)
        if taken.position.epoch == 0:
            counted = trainer.progress.utterances, trainer.progress.skipped
    assert counted == (20 - len(gone), len(gone))


def test_the_largest_batch_is_looked_for_among_windows(whisper, recordings, tmp_path):
    config = settings(whisper, recordings)
    trainer = new_trainer(config, tmp_path, build_corpus(config.data, config.seed))
    probe = Probe(trainer)
    assert probe.longest == 6
    assert max(map(probe.padded_seconds, probe.costliest(6.0))) == pytest.approx(6, abs=0.1)


def test_a_head_is_not_taught_that_what_is_broken_off_is_silence(whisper, recordings, tmp_path):
    """Windows may end with the beginning of an utterance, of whose text the labels have nothing."""
    changes = {"loss": {"ctc_weight": 0.5}, "data": {"augment": {"speed": [1.0]}}}
    config = settings(whisper, recordings, **changes)
    trainer = new_trainer(config, tmp_path, build_corpus(config.data, config.seed))
    [head] = [loss for loss in trainer.step.losses if loss.name == "ctc_loss"]
    begun = 0
    for taken in islice(trainer.batches(), 40):
        for batch in taken.own:
            frames = batch.attention_mask.sum(1).tolist()
            expected = [
                round(100 * (sum(p.duration for p in u.parts) + sum(u.pauses)))
                if getattr(u, "begun", None)
                else own
                for u, own in zip(batch.utterances, frames, strict=True)
            ]
            begun += expected != frames
            if batch.told_mask is None:
                assert expected == frames
                continue
            assert batch.told_mask.sum(1).tolist() == pytest.approx(expected, abs=1)
            shape = len(frames), batch.attention_mask.shape[1] // 2, 20
            logits = torch.randn(shape)
            found = head(EchoOutput(ctc_logits=logits), batch)
            for row, told in zip(logits, batch.told_mask.sum(1), strict=True):
                row[told // 2 + 1 :] = 9.0
            assert head(EchoOutput(ctc_logits=logits), batch) == found
    assert begun


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init": None}, r"data\.pack without across_speakers needs a Whisper.s timestamps"),
        (
            {"data": {"pack": {"seconds": 7}}},
            r"data\.pack\.seconds is 7, but .* hears 6 s",
        ),
        (
            {"data": {"speaker_column": "name"}},
            r"data\.pack has no effect: no two utterances have the same recording or speaker",
        ),
    ],
)
def test_what_cannot_be_packed_is_refused(whisper, recordings, tmp_path, changes, message):
    config = settings(whisper, recordings, **changes)
    with pytest.raises(ConfigError, match=message):
        starting_point(config, build_corpus(config.data, config.seed))


def test_timestamps_are_refused_for_a_model_that_has_none(whisper, recordings, tmp_path):
    """Before training, rather than when the first example with timestamps is drawn."""
    alone = {"data": {"pack": None, "timestamps": 0.2, "language": None}}
    small = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "heads": 2}
    scratch = {**alone, "init": None, "model": small}
    with pytest.raises(
        ConfigError, match=r"data\.timestamps needs .* a model trained from scratch does not"
    ):
        start_run(settings(whisper, recordings, **scratch), tmp_path / "scratch")
    scratch["data"] = {**alone["data"], "timestamps": 0}
    start_run(
        settings(whisper, recordings, **scratch, train={"max_steps": 1}), tmp_path / "scratch"
    )
    config = settings(tmp_path / "scratch", recordings, **alone)
    with pytest.raises(
        ConfigError, match=r"data\.timestamps needs .* .*/scratch does not produce: leave it"
    ):
        starting_point(config, build_corpus(config.data, config.seed))
    alone["data"]["language"] = "en"
    config = settings(whisper, recordings, **alone)
    starting_point(config, build_corpus(config.data, config.seed))


def test_a_model_from_scratch_learns_from_utterances_joined_across_speakers(recordings, tmp_path):
    pack = {"seconds": 6, "share": 1.0, "across_speakers": True, "prompt_share": None}
    changes = {
        "init": None,
        "data": {"pack": pack, "language": None},
        "model": {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "heads": 2},
        "train": {"max_steps": 1},
    }
    config = settings(None, recordings, **changes)
    trainer = new_trainer(config, tmp_path, build_corpus(config.data, config.seed))
    batches = [batch for taken in islice(trainer.batches(), 4) for batch in taken.own]
    heard = [parts_of(utterance) for batch in batches for utterance in batch.utterances]
    assert max(map(len, heard)) > 1
    pack["seconds"] = 40
    with pytest.raises(ConfigError, match=r"data\.pack\.seconds is 40, but model\.max_seconds"):
        start_run(settings(None, recordings, **changes), tmp_path / "long")
