"""A run whose training data are streamed from shards."""

import pytest
import torch

from echo.checkpoints.run import CheckpointFolder, Progress
from echo.data.prepare.shard import write_shards
from echo.data.sources import read_source
from echo.train.run import resume_run, start_run
from tests.train.test_loop import StopError, losses, stop_after, tiny, weights


def test_a_resumed_run_over_shards_is_the_unbroken_run(shared, tmp_path, monkeypatch):
    """From scratch, with a tokenizer of all transcripts; mid-block, to the bit."""
    manifest = str(shared / "data" / "librispeech" / "dev.jsonl")
    rows = sorted(read_source(manifest), key=lambda u: u.duration)[:12]
    write_shards(rows, tmp_path / "shards", "opus", max_utterances=2)
    data = {
        **{"corpus": None, "root": None, "eval": str(tmp_path / "shards")},
        **{"train": str(tmp_path / "shards"), "shards_per_block": 1, "max_batch_size": 2},
    }
    config = tiny(
        shared,
        data=data,
        model={"max_tokens": 150},
        train={"eval_utterances": 1},
        tokenizer={"kind": "bpe", "size": 300},
    )
    start_run(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(StopError):
            start_run(config, tmp_path / "broken")
    progress = Progress.from_dict(CheckpointFolder(tmp_path / "broken").load()[1]["progress"])
    assert progress.step == 3
    assert progress.position.block + progress.position.epoch > 0
    torch.manual_seed(99)
    assert resume_run(tmp_path / "broken").step == 7
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
