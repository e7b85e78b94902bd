"""Kills small training runs at random points, resumes them, and compares them with unbroken ones.

Each run of connected digits (`--data`, the Free Spoken Digit Dataset) is ended again and again: by
SIGKILL, SIGTERM or SIGINT at any time, by SIGKILL while a checkpoint is being written, by an
exception in the middle of a step, and by a disk that is full (a limit on the size of files) while a
checkpoint is written. After every death the newest checkpoint must be whole and no older than the
newest before; a run that has come to its end must have the unbroken run's losses, word error
rates and weights, to the bit.

    python scripts/check/chaos.py --data ../shared/data/fsdd --kills 200
"""

import argparse
import logging
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from echo.checkpoints.checksums import damage
from echo.checkpoints.run import TRAINER_FILE, CheckpointFolder
from echo.config import RunConfig
from echo.data.build import build_corpus
from echo.data.utterance import Corpus
from echo.support.errors import EchoError, StoppedError
from echo.support.settings import build
from echo.train.recorder import read_metrics
from echo.train.run import resume_run, start_run
from echo.train.step import TrainStep

DEATHS = ("SIGKILL", "SIGTERM", "SIGINT", "killed in writing", "exception", "full disk")
UNFORESEEN = 3  # an exit status


class BrokenStepError(Exception):
    """Stands for whatever breaks in the middle of a step."""


def small_config(data: str) -> RunConfig:
    return build(
        RunConfig,
        {
            "model": {"d_model": 32, "encoder_layers": 2, "decoder_layers": 1, "heads": 2},
            "data": {
                "corpus": "fsdd",
                "root": data,
                "workers": 0,
                "max_batch_seconds": 8,
                "max_batch_size": 4,
            },
            "train": {
                "max_steps": 24,
                "warmup_steps": 2,
                "accumulation": 2,
                "ema_decay": 0.9,
                "log_every": 1,
                "eval_every": 10,
                "eval_utterances": 2,
                "checkpoint_every": 3,
                "keep_best": 2,
            },
        },
        "chaos",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a forked process cannot use its parent's thread pool
    rng = random.Random(arguments.seed)
    config = small_config(arguments.data)
    corpus = build_corpus(config.data, config.seed)
    with tempfile.TemporaryDirectory() as folder:
        chaos(config, corpus, Path(folder), arguments.kills, rng)


def chaos(config: RunConfig, corpus: Corpus, folder: Path, kills: int, rng: random.Random) -> None:
    started = time.perf_counter()
    if fork(lambda: start_run(config, folder / "unbroken", corpus)) != 0:
        sys.exit("the unbroken run failed")
    seconds = time.perf_counter() - started
    expected = result(folder / "unbroken")
    deaths: Counter[str] = Counter()
    runs, different, lost = 0, 0, 0
    while deaths.total() < kills:
        run = folder / "run"
        begun, newest = False, 0
        while True:
            kind = rng.choice(DEATHS)
            died = live(config, corpus, run, begun, kind, seconds, rng)
            begun = (run / "config.yaml").exists()
            checkpoint = newest_whole(run)
            lost += checkpoint is None or checkpoint < newest
            newest = checkpoint or 0
            if not died:
                break
            deaths[kind] += 1
        runs += 1
        different += result(run) != expected
        shutil.rmtree(run)
        summary = f"{deaths.total()} kills in {runs} runs: {different} different, {lost} lost"
        print(summary, flush=True)
    print(", ".join(f"{kind}: {deaths[kind]}" for kind in DEATHS))
    print(
        f"{deaths.total()} kills in {runs} runs: {different} runs differ from the unbroken one, "
        f"{lost} lost or damaged checkpoints"
    )
    sys.exit(bool(different or lost))


def live(
    config: RunConfig,
    corpus: Corpus,
    run: Path,
    begun: bool,
    kind: str,
    seconds: float,
    rng: random.Random,
) -> bool:
    """Starts or resumes a run, which may meet its death; returns whether it did."""
    delay = rng.uniform(0, seconds)
    count = rng.randint(1, 4)  # of checkpoints or steps until the death
    size = rng.randint(1000, 300_000)  # bytes that still fit on the disk

    def work() -> None:
        random.seed(os.getpid())  # whatever a new process would draw
        torch.manual_seed(os.getpid())
        if kind.startswith("SIG"):
            number = signal.Signals[kind]
            threading.Timer(delay, os.kill, (os.getpid(), number)).start()
        elif kind == "killed in writing":
            moment = rng.uniform(0, 0.1)
            on_call(CheckpointFolder, "save", count, lambda: kill_after(moment))
        elif kind == "full disk":
            on_call(CheckpointFolder, "save", count, lambda: fill_disk(size))
        else:
            on_call(TrainStep, "backward", rng.randint(1, 40), fail)
        if begun:
            resume_run(run, corpus)
        else:
            start_run(config, run, corpus)

    return fork(work) != 0


def on_call(cls: type, name: str, number: int, action: Callable[[], None]) -> None:
    """Does something before call `number` of a method."""
    method = getattr(cls, name)
    calls = iter(range(number - 1, -10_000, -1))

    def disturbed(self, *arguments):
        if next(calls) == 0:
            action()
        return method(self, *arguments)

    setattr(cls, name, disturbed)


def kill_after(seconds: float) -> None:
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()


def fill_disk(size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def fail() -> None:
    raise BrokenStepError


def fork(work: Callable[[], object]) -> int:
    """Does work in a process of its own, whose imports are done already; returns how it ended."""
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == UNFORESEEN:
            sys.exit("a run ended by an error that was not meant")
        return code
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    logging.disable()
    try:
        work()
        os._exit(0)
    except (BrokenStepError, EchoError, StoppedError, OSError, KeyboardInterrupt):
        os._exit(1)
    except BaseException:
        traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
        os._exit(UNFORESEEN)


def newest_whole(run: Path) -> int | None:
    """The step that the run would go on from, 0 where it would begin anew; None where one of its
    checkpoints is damaged."""
    checkpoints = CheckpointFolder(run)
    loaded = checkpoints.load()
    if any(damage(path, without=[TRAINER_FILE]) for path in checkpoints.newest()):
        return None
    return loaded[1]["progress"]["step"] if loaded else 0


def result(run: Path) -> tuple[list[float], list[float], bytes]:
    """All that training comes to: losses, word error rates, and the last weights."""
    events = read_metrics(run)
    return (
        [e["loss"] for e in events if e["kind"] == "train"],
        [e["wer"] for e in events if e["kind"] == "eval"],
        (CheckpointFolder(run).path("last") / "model.safetensors").read_bytes(),
    )


if __name__ == "__main__":
    main()
