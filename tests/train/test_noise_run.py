"""Runs with recordings without speech, and with noise added."""

import math

import numpy as np
import pytest

from echo.config import RunConfig
from echo.support.errors import ConfigError
from echo.support.settings import build, merge
from echo.train.run import start_run
from tests.data.recordings import tone, write, write_manifest
from tests.train.test_loop import TINY, losses


def settings(tmp_path, noises="noises"):
    """A tiny model on two tones with text and two recordings of noise without."""
    for name in ("a", "b"):
        write(tmp_path / f"{name}.wav", tone(1.5))
    for seed in (1, 2):
        samples = 0.1 * np.random.default_rng(seed).standard_normal(16_000)
        write(tmp_path / f"noises/{seed}.wav", samples)
    spoken = [{"audio_filepath": f"{name}.wav", "text": "one two"} for name in ("a", "b")]
    silent = [{"audio_filepath": f"noises/{seed}.wav", "text": ""} for seed in (1, 2)]
    data = write_manifest(tmp_path / "m.jsonl", *spoken, *silent)
    changes = {
        "data": {
            "corpus": None,
            "train": data,
            "eval": data,
            "max_batch_size": 2,
            "augment": {"noise": {"folder": str(tmp_path / noises), "probability": 1.0}},
        },
        "loss": {"ctc_weight": 0.3, "alignment_weight": 0.3},
        "train": {"max_steps": 4, "eval_every": 4},
    }
    return build(RunConfig, merge(TINY, changes), "test")


def test_recordings_without_speech_are_learned_from_and_measured(tmp_path):
    progress = start_run(settings(tmp_path), tmp_path / "run")
    assert (progress.step, progress.utterances, progress.skipped) == (4, 8, 0)
    assert len(losses(tmp_path / "run")) == 4
    assert all(math.isfinite(loss) for loss in losses(tmp_path / "run"))
    assert progress.wer is not None


def test_a_missing_folder_of_noises_leaves_no_run_behind(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.augment\.noise\.folder: .*none: no such folder"):
        start_run(settings(tmp_path, "none"), tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()
