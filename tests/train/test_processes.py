"""Training in several processes is training in one: here on the CPU, and of real recordings.

Processes take longer to start than to train so little, so two of them (this file, run as a module)
work through all the runs that the tests look at.
"""

import atexit
import gc
import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType

from echo.data.audio import AudioFile
from echo.data.batch import Batch
from echo.data.batching import EpochBatches, Position
from echo.data.build import build_corpus
from echo.data.utterance import FixedCorpus
from echo.support.distributed import Processes
from echo.support.errors import EchoError
from echo.train.recorder import read_metrics
from echo.train.run import resume_run, start_run
from echo.train.step import TrainStep
from tests.train.test_loop import StopError, losses, tiny, weights

ROOT = Path(__file__).parents[2]
WORLD = 2
SHARED = Path(os.environ.get("ECHO_SHARED", ""))
# Hard windows leave weights without a gradient, which processes must not wait for.
FORMS = {"encoder": ["adaptive", "hybrid"], "decoder": "plain"}
LAUNCHED_WITH_FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "WhisperEncoderLayer,WhisperDecoderLayer",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}


def settings(shared, dropout=0.0, on_error="raise", **train):
    """Batches of one or two utterances, a checkpoint every other step, WER at the end."""
    return tiny(
        shared,
        model={"dropout": dropout, "attention": FORMS},
        data={"max_batch_size": 2, "on_error": on_error},
        train={"max_steps": 5, "checkpoint_every": 2, "eval_utterances": 6, **train},
        decode={"max_batch_seconds": 4},
    )


def corpus(shared, bad=None):
    """Nine utterances, which make five batches."""
    whole = build_corpus(tiny(shared).data, 1)
    train = list(whole.train_epoch(0)[:9])
    if bad:
        train = [replace(u, audio=AudioFile(bad)) if i % 3 else u for i, u in enumerate(train[:6])]
    return FixedCorpus(train, whole.eval_utterances()[:6])


class Noting:
    """Within, notes the utterances of every batch, and stops a run at a step, if there is one."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.batches: list[list[str]] = []

    def __enter__(self):
        self.call = call = TrainStep.__call__

        def noted(step: TrainStep, batches: list[Batch]):
            if step.state.progress.step == self.stop_at:
                raise StopError
            self.batches += [[u.id for u in batch.utterances] for batch in batches]
            return call(step, batches)

        TrainStep.__call__ = noted
        return self

    def __exit__(self, kind, error, trace):
        TrainStep.__call__ = self.call
        return kind is StopError


def two_processes(folder: Path, shared: Path) -> dict[str, object]:
    """What one of two processes does; returns what it has to tell."""
    told: dict[str, object] = {}
    start_run(settings(shared), folder / "two", corpus(shared))

    start_run(settings(shared, dropout=0.1), folder / "whole", corpus(shared))
    with Noting(stop_at=3):
        start_run(settings(shared, dropout=0.1), folder / "broken", corpus(shared))
    torch.manual_seed(99)  # a new process would have other numbers to draw
    resume_run(folder / "broken", corpus(shared))

    with Noting(stop_at=4) as noting:
        resume_run(folder / "passed on", corpus(shared))
    told["passed on"] = noting.batches

    bad = corpus(shared, folder / "bad.wav")
    start_run(settings(shared, on_error="skip"), folder / "two skip", bad)
    other = corpus(shared) if os.environ["RANK"] == "0" else bad
    for name, found in (("stops", bad), ("differs", other)):
        try:
            start_run(settings(shared), folder / name, found)
        except EchoError as error:
            told[name] = [type(error).__name__, str(error)]
    return told


def two_sharded(folder: Path, shared: Path) -> dict[str, object]:
    """The same, with the weights spread over both; FSDP is otherwise for GPUs alone."""
    dist.init_process_group("gloo")
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    PartialState._prepare_backend = lambda *_: ("gloo", DistributedType.MULTI_GPU)
    start_run(settings(shared), folder / "two", corpus(shared))
    with Noting(stop_at=3):
        start_run(settings(shared), folder / "broken", corpus(shared))
    if dist.get_rank() == 0:
        shutil.copytree(folder / "broken", folder / "passed on")
    dist.barrier()
    resume_run(folder / "broken", corpus(shared))
    return {}


def note_groups(path: Path) -> None:
    """Writes down how many groups of processes the run's objects hold at the very end."""
    held = [o for o in gc.get_objects() if type(o) is Processes and o.group]
    path.write_text(str(len(held) + dist.is_initialized()))


def launch(work, folder, **environment) -> list[dict[str, list]]:
    """Has two processes work; returns what each has told."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(WORLD)}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.train.test_processes", work.__name__, str(folder)],
            env={**os.environ, **places, **environment, "RANK": str(r), "LOCAL_RANK": str(r)},
            cwd=ROOT,
        )
        for r in range(WORLD)
    ]
    try:
        assert [process.wait(timeout=300) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()
    # The threads of a group may abort the process as the interpreter shuts down.
    assert [(folder / f"groups-{r}").read_text() for r in range(WORLD)] == ["0"] * WORLD
    return [json.loads((folder / f"told-{r}.json").read_text()) for r in range(WORLD)]


@pytest.fixture(scope="module")
def folder(shared, tmp_path_factory):
    """Runs of one process, each step of which takes as many batches as two processes take."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "bad.wav").write_bytes(b"RIFF nothing of the kind")
    start_run(settings(shared, accumulation=2), folder / "one", corpus(shared))
    start_run(
        settings(shared, on_error="skip", accumulation=2),
        folder / "one skip",
        corpus(shared, folder / "bad.wav"),
    )
    return folder


@pytest.fixture(scope="module")
def first_batches(shared, folder):
    """Those of a run that one process has begun, and two processes go on with."""
    with Noting(stop_at=2) as noting:
        start_run(settings(shared), folder / "passed on", corpus(shared))
    return noting.batches


@pytest.fixture(scope="module")
def told(folder, first_batches, shared):
    return launch(two_processes, folder, ECHO_SHARED=str(shared))


def gradient_norms(run):
    return [e["grad_norm"] for e in read_metrics(run) if e["kind"] == "train"]


def check_same_training(one, two, tolerance):
    assert losses(two) == pytest.approx(losses(one), rel=tolerance)
    # Adam's steps do not depend on how large gradients are, so the weights would not show it.
    assert gradient_norms(two) == pytest.approx(gradient_norms(one), rel=10 * tolerance)
    for name, weight in weights(one).items():
        torch.testing.assert_close(weights(two)[name], weight, rtol=tolerance, atol=tolerance)
    wers = [[e["wer"] for e in read_metrics(run) if e["kind"] == "eval"] for run in (one, two)]
    assert wers[0] == wers[1]


pytestmark = pytest.mark.slow


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "accelerate").glob("*.yaml")), ids=str)
def test_accelerate_reads_the_launch_configs(path):
    """And would start several processes by them, which `accelerate launch` decides by these."""
    config = load_config_from_file(str(path))
    assert config.distributed_type in (DistributedType.MULTI_GPU, DistributedType.FSDP)
    assert config.num_processes >= 2
    if config.distributed_type == DistributedType.FSDP:
        layers = config.fsdp_config["fsdp_transformer_layer_cls_to_wrap"]
        assert layers == LAUNCHED_WITH_FSDP["FSDP_TRANSFORMER_CLS_TO_WRAP"]


@pytest.mark.parametrize("of", ["", " skip"])
def test_two_processes_train_as_one_that_takes_twice_the_batches(folder, told, of):
    """Without dropout, whose draws differ by process; also where most recordings cannot be read,
    and one of the processes has nothing to learn from."""
    check_same_training(folder / f"one{of}", folder / f"two{of}", 1e-5)
    assert len(list((folder / "two" / "tensorboard").iterdir())) == 1


def test_two_processes_resumed_are_the_unbroken_ones(folder, told):
    """Mid-epoch, with dropout: every loss and every weight is the same to the bit."""
    assert losses(folder / "broken") == losses(folder / "whole")
    whole, resumed = weights(folder / "whole"), weights(folder / "broken")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_another_number_of_processes_goes_on_with_the_data(folder, first_batches, told, shared):
    """One, then two, then one: each batch of two epochs is seen once, in its place."""
    with Noting() as last:
        resume_run(folder / "passed on", corpus(shared))
    middle = [batch for both in zip(*(t["passed on"] for t in told), strict=True) for batch in both]
    found = [*first_batches, *middle, *last.batches]
    data = settings(shared).data
    sampler = EpochBatches(
        corpus(shared), 1, data.max_batch_seconds, 2, data.augment.speed, Position()
    )
    utterances = corpus(shared).train
    expected = [
        [utterances[item.index].id for item in batch]
        for batch, _ in zip(sampler, found, strict=False)
    ]
    assert len(found) == 2 + 2 * 2 + 1
    assert [sorted(batch) for batch in found] == [sorted(batch) for batch in expected]


def test_what_stops_one_process_stops_all_by_one_sentence(folder, told):
    """A recording that only one of them reads, and data that are not the same."""
    for name, kind, message in (
        ("stops", "DataError", "bad.wav"),
        ("differs", "ConfigError", "the processes have different training data"),
    ):
        assert [t[name][0] for t in told] == [kind, "StoppedElsewhere"]
        assert all(message in t[name][1] for t in told)
    assert not (folder / "differs").exists()


def test_sharded_weights_train_and_are_written_as_whole_ones(folder, shared, tmp_path):
    """FSDP: as one process, resumed or not, and one process goes on from its checkpoint."""
    launch(two_sharded, tmp_path, ECHO_SHARED=str(shared), **LAUNCHED_WITH_FSDP)
    resume_run(tmp_path / "passed on", corpus(shared))
    check_same_training(folder / "one", tmp_path / "two", 1e-4)
    check_same_training(tmp_path / "two", tmp_path / "broken", 0)
    assert losses(tmp_path / "passed on")[:2] == losses(tmp_path / "two")[:2]
    assert losses(tmp_path / "passed on")[2] < losses(tmp_path / "two")[1]


if __name__ == "__main__":
    work, place = globals()[sys.argv[1]], Path(sys.argv[2])
    atexit.register(note_groups, place / f"groups-{os.environ['RANK']}")  # after all others
    found = work(place, SHARED)
    (place / f"told-{os.environ['RANK']}.json").write_text(json.dumps(found))
