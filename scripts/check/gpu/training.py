"""Whether training works: in bf16, resumed, without waiting for the device, and sharded."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from models import TOKENIZER, batch, manifest, size_here, trainer
from rows import FailedError, Place, SkippedError, check, host_syncs

from echo.config import RunConfig
from echo.data.tokenizer import special_ids
from echo.model.geometry import encoder_lengths
from echo.support.settings import build
from echo.train.losses.joint import ctc_loss
from echo.train.recorder import read_metrics
from echo.train.run import resume_run, start_run
from echo.train.step import Done, TrainStep

STEPS, BREAK = 6, 4


class StoppedHereError(Exception):
    """Stands for whatever ends a run."""


def content(place: Place, **train: Any) -> dict[str, Any]:
    dims = 32 if place.quick else 256
    return {
        "model": {"d_model": dims, "encoder_layers": 2, "decoder_layers": 1, "heads": 4}
        | {"max_seconds": 20, "max_tokens": 200},
        "data": {"train": manifest(place), "eval": manifest(place), "max_batch_size": 4}
        | {"workers": 0, "max_batch_seconds": 60},
        "train": {"max_steps": STEPS, "warmup_steps": 1, "log_every": 1, "checkpoint_every": 2}
        | {"eval_utterances": 1, "precision": "bf16", **train},
    }


def losses(run: Path) -> list[float]:
    return [event["loss"] for event in read_metrics(run) if event["kind"] == "train"]


@contextmanager
def broken_off() -> Iterator[None]:
    """Within, a run stops in the middle."""
    call = TrainStep.__call__

    def stopping(step: TrainStep, batches: Any) -> Any:
        if step.state.progress.step == BREAK:
            raise StoppedHereError
        return call(step, batches)

    TrainStep.__call__ = stopping  # type: ignore[method-assign]
    try:
        yield
    except StoppedHereError:
        pass
    finally:
        TrainStep.__call__ = call  # type: ignore[method-assign]


@check()
def a_bf16_run_resumes(place: Place) -> dict[str, Any]:
    """Its losses are those of a run that was not broken off, as far as kernels repeat."""
    whole, broken = place.folder / "whole", place.folder / "broken"
    config = build(RunConfig, content(place), "the check")
    start_run(config, whole)
    with broken_off():
        start_run(config, broken)
    resume_run(broken)
    wanted, found = losses(whole), losses(broken)
    apart = max(abs(a / b - 1) for a, b in zip(found, wanted, strict=True))
    if not apart < 0.01:
        raise FailedError(f"losses are {found} resumed and {wanted} unbroken")
    return {"last_loss": wanted[-1], "apart": apart, "equal": found == wanted}


@check(("plain", 0.0), ("adaptive", 0.0), ("adaptive", 0.3), ("hybrid", 0.0))
def a_step_does_not_wait(place: Place, form: str, ctc_weight: float) -> dict[str, Any]:
    """Host syncs in a training step, logging apart; on the CPU, only that it is taken."""
    own = trainer(place, size_here(place), form, loss={"ctc_weight": ctc_weight})
    given = batch(2, 1 if place.quick else 8, place.device)
    for _ in range(1 if place.quick else 3):
        outcome = own.step([given])
        if not isinstance(outcome, Done) or not outcome.finite:
            raise FailedError("the step was skipped")
    place.need_cuda()
    count, lines = host_syncs(lambda: own.step([given]))
    if count:
        raise FailedError(f"the host waits {count} times: {lines}")
    return {"syncs": count}


@check()
def ctc_does_not_wait(place: Place) -> dict[str, Any]:
    given = batch(4, 1 if place.quick else 8, place.device)
    frames = int(encoder_lengths(given.attention_mask).max())
    logits = torch.randn(4, frames, len(TOKENIZER), device=place.device, requires_grad=True)
    special, blank = special_ids(TOKENIZER).to(place.device), TOKENIZER.pad_token_id

    def work() -> None:
        ctc_loss(logits, given.labels, given.attention_mask, special, blank).backward()

    work()
    place.need_cuda()
    count, lines = host_syncs(work)
    if count:
        raise FailedError(f"the host waits {count} times: {lines}")
    return {"syncs": count}


@check()
def fsdp2_on_one_card_trains_as_without(place: Place) -> dict[str, Any]:
    """One process, launched as `accelerate launch` with FSDP 2 does it."""
    place.need_cuda()
    if not torch.distributed.is_nccl_available():
        raise SkippedError("needs NCCL")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launched = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "1",
        "RANK": "0",
        "LOCAL_RANK": "0",
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_TRANSFORMER_CLS_TO_WRAP": "WhisperEncoderLayer,WhisperDecoderLayer",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    }
    config = place.folder / "fsdp.yaml"
    config.write_text(yaml.safe_dump(content(place, precision="fp32")))
    found = {}
    for name, environment in (("alone", {}), ("sharded", launched)):
        run = place.folder / name
        shutil.rmtree(run, ignore_errors=True)
        done = subprocess.run(
            [sys.executable, "-m", "echo", "train", str(config), "--out", str(run)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=180,
        )
        if done.returncode:
            raise FailedError(f"{name}: {done.stderr.strip().splitlines()[-1]}")
        found[name] = losses(run)
    apart = max(abs(a / b - 1) for a, b in zip(*found.values(), strict=True))
    if not apart < 0.01:
        raise FailedError(f"losses are {json.dumps(found)}")
    return {"apart": apart}
