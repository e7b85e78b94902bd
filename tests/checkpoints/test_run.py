"""What is kept of a run on disk, and what is made of it when it was damaged."""

import json
import resource
import shutil
import signal
from pathlib import Path

import pytest
import torch
from transformers import AutoFeatureExtractor

import echo.train.measuring
from echo.checkpoints.load import load_model
from echo.checkpoints.run import CheckpointFolder
from echo.support.errors import EchoError
from echo.train.run import resume_run, start_run
from tests.train.test_loop import assert_same_run, tiny


@pytest.fixture(scope="module")
def undisturbed(shared, tmp_path_factory):
    """A run of 7 steps; its checkpoints are of steps 6 and 7."""
    run = tmp_path_factory.mktemp("undisturbed") / "whole"
    start_run(tiny(shared), run)
    return run


@pytest.fixture
def whole(undisturbed, tmp_path):
    return Path(shutil.copytree(undisturbed, tmp_path / "whole"))


def names(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


@pytest.mark.slow
def test_the_newest_two_and_the_best_are_kept(shared, tmp_path, monkeypatch):
    wers = iter([0.9, 0.5, 0.7, 0.6])
    monkeypatch.setattr(echo.train.measuring.Measuring, "wer", lambda *_: next(wers))
    config = tiny(shared, train={"eval_every": 2, "checkpoint_every": 5, "keep_best": 1})
    start_run(config, tmp_path)
    folder = CheckpointFolder(tmp_path)
    # Of steps 2, 4 and 7 the WER was good enough to keep; 5 was due, 7 is the last.
    assert names(tmp_path) == ["step-000004", "step-000005", "step-000007"]
    assert folder.path("best").name == "step-000004"
    assert folder.path("last").name == "step-000007"
    assert not (folder.path("best") / "trainer.pt").exists()  # too old to be resumed from


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.safetensors", "trainer.pt", "progress.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(whole, file, harm, caplog):
    path = whole / "checkpoints" / "step-000007" / file
    content = bytearray(path.read_bytes())
    if harm == "remove":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    state = torch.load(whole / "checkpoints" / "step-000006" / "trainer.pt", weights_only=True)
    found, loaded = CheckpointFolder(whole).load()
    assert found.name == "step-000006"
    assert loaded["progress"]["step"] == 6
    assert loaded["schedule"] == state["schedule"]
    assert "step-000007: damaged, and passed over: " + file in caplog.text


def test_a_run_goes_on_exactly_from_the_checkpoint_before_a_damaged_one(whole, undisturbed):
    (whole / "checkpoints" / "step-000007" / "model.safetensors").write_bytes(b"")
    resume_run(whole)
    assert_same_run(whole, undisturbed)


def test_garbled_checksums_count_as_damage(whole):
    for name, text in (("step-000006", "[1]"), ("step-000007", "{")):
        (whole / "checkpoints" / name / "checksums.json").write_text(text)
    with pytest.raises(EchoError, match="every checkpoint is damaged"):
        resume_run(whole)


@pytest.mark.slow
def test_a_run_that_was_stopped_before_its_first_checkpoint_begins_anew(whole, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text((whole / "config.yaml").read_text())
    (tmp_path / "other" / "checkpoints" / ".step-000003.writing").mkdir(parents=True)
    resume_run(tmp_path / "other")
    assert_same_run(tmp_path / "other", whole)
    assert names(tmp_path / "other") == names(whole)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [3_000, 60_000, 150_000])
def test_a_full_disk_is_told_of_and_costs_nothing(whole, shared, tmp_path, limit, monkeypatch):
    """Stood for by a limit on a file's size, which ends a write half-way as well."""
    run = tmp_path / "run"
    save = CheckpointFolder.save

    def fill_disk(self, model, tokenizer, state, *further):
        if state["progress"]["step"] == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        return save(self, model, tokenizer, state, *further)

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    monkeypatch.setattr(CheckpointFolder, "save", fill_disk)
    try:
        with pytest.raises(EchoError, match=r"step-000006: cannot be written \("):
            start_run(tiny(shared), run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    monkeypatch.undo()
    assert names(run) == ["step-000003"]
    resume_run(run)
    assert_same_run(run, whole)


def test_progress_can_be_read_by_people(whole):
    progress = json.loads((whole / "checkpoints" / "step-000007" / "progress.json").read_text())
    assert progress["step"] == 7
    assert progress["wer_step"] == 7
    assert progress["wer"] >= 0


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_a_checkpoint_is_replaced_without_a_moment_of_none(whole, undisturbed, moment, monkeypatch):
    """Ended before, between and after the renaming: there is always the old one or the new one."""
    folder = CheckpointFolder(whole)
    last = folder.path("last")
    rename, renamed = Path.rename, []

    def killed(self, target):
        if self.name.endswith(".writing") and moment != "after":
            if moment == "before":
                shutil.rmtree(self)
            raise KeyboardInterrupt
        renamed.append(target)
        return rename(self, target)

    loaded = load_model(str(last))
    assert (loaded.checkpoint, load_model(str(whole), "last").checkpoint) == (None, last.name)
    _, state = folder.load()
    monkeypatch.setattr(Path, "rename", killed)
    if moment == "after":
        folder.save(loaded.model, loaded.tokenizer, state)
    else:
        with pytest.raises(KeyboardInterrupt):
            folder.save(loaded.model, loaded.tokenizer, state)
    monkeypatch.undo()
    assert renamed  # the old one was moved aside
    found, state = folder.load()
    assert (found, state["progress"]["step"]) == (last, 7)
    resume_run(whole)
    assert_same_run(whole, undisturbed)


def test_what_a_crash_has_left_is_cleared_away(whole):
    checkpoints = whole / "checkpoints"
    for name in ("step-000007.replaced", "step-000003.deleted", "step-000009.writing"):
        shutil.copytree(checkpoints / "step-000006", checkpoints / f".{name}")
    (checkpoints / "step-000007" / "model.safetensors").write_bytes(b"")
    resume_run(whole)
    assert names(whole) == ["step-000006", "step-000007"]


def test_the_extractor_fits_the_encoder(whole):
    extractor = AutoFeatureExtractor.from_pretrained(whole / "checkpoints" / "step-000007")
    assert (extractor.feature_size, extractor.chunk_length) == (80, 10)
    assert extractor.n_samples == 160_000
