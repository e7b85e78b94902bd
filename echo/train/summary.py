"""What a run says of itself at its beginning, at each evaluation and at its end."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from echo.attention.settings import AttentionSettings
from echo.checkpoints.run import CheckpointFolder, Progress
from echo.config import RunConfig
from echo.data.columns import cells
from echo.data.corpora.stream import AnyCorpus, StreamCorpus
from echo.data.examples import ExampleReader
from echo.data.packing import Window
from echo.model.model import EchoForConditionalGeneration
from echo.support.errors import EchoError, StoppedError
from echo.support.text import percent
from echo.train.batches import training_sampler
from echo.train.recorder import measured_wers, read_evaluations
from echo.train.schedule import share_done


def beginning(
    config: RunConfig,
    corpus: AnyCorpus,
    reader: ExampleReader,
    model: EchoForConditionalGeneration,
    accelerator: Accelerator,
) -> dict[str, str]:
    """What is to be said of the `data` and the budget, the `model`, and the `device`."""
    train, world = config.train, accelerator.num_processes
    if isinstance(corpus, StreamCorpus):
        data_line = f"a stream; {budget(config)}"
    else:
        utterances = corpus.train_epoch(0)
        hours = sum(seconds for (seconds,) in cells(utterances, "duration")) / 3600
        sampler = training_sampler(config.seed, config.data, corpus, reader)
        batches = sampler.block_batches(0, 0)
        steps = len(batches) / (train.accumulation * world)
        silent = sum(not text for (text,) in cells(utterances, "text"))
        speechless = f", {silent} of them without speech" if silent else ""
        epochs = f", {train.max_steps / steps:.1f} epochs" if train.max_steps else ""
        windows = [i.row for batch in batches for i in batch if isinstance(i.row, Window)]
        joined = sum(len(window.parts) for window in windows)
        packed = f", {joined} of them in {len(windows)} windows" if config.data.pack else ""
        data_line = (
            f"{len(utterances)} utterances{speechless}{packed}, {hours:.2f} hours, "
            f"{steps:g} steps an epoch; "
            f"{budget(config)}{epochs}"
        )
    every = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    model_line = (
        f"{millions(every)} parameters, {millions(trained)} of them trained; attention: "
        f"{named(model.config.encoder_attention())} in the encoder, "
        f"{named(model.config.decoder_attention())} in the decoder"
    )
    kind = accelerator.device.type
    device = torch.cuda.get_device_name(accelerator.device) if kind == "cuda" else kind
    precision = {"no": "fp32"}.get(accelerator.mixed_precision, accelerator.mixed_precision)
    device_line = f"{device}, {precision}, {world} process{'es' if world > 1 else ''}"
    return {"data": data_line, "model": model_line, "device": device_line}


def evaluated(
    evaluations: Sequence[Mapping[str, Any]], config: RunConfig, loss: float | None, rate: float
) -> str:
    """A line on the last of a run's evaluations, whose columns stand below those of the one before.
    `loss` is the last one logged, None before training; `rate` the learning rate."""
    last = evaluations[-1]
    best = min(evaluations, key=lambda event: (event["wer"], event["step"]))
    width = len(str(config.train.max_steps or 10**6))
    named = measured_wers(last).items()
    wers = "  ".join(f"{name}{' ' if name else ''}{100 * wer:6.2f} %" for name, wer in named)
    shown = "-" if loss is None else f"{loss:.3f}"
    return "  ".join(
        [
            f"step {last['step']:{width}}",
            f"loss {shown:>6}",
            f"WER {wers}",
            f"best {100 * best['wer']:6.2f} % at {best['step']:{width}}",
            f"{last['seconds']:6.0f} s",
            f"lr {rate:.2e}",
        ]
    )


def end_facts(
    run: Path, config: RunConfig, progress: Progress, error: BaseException | None
) -> dict[str, Any]:
    """What the event of an end holds: what training came to, and why by the exception, if any."""
    spent = share_done(config.train, progress.step, progress.seconds) >= 1
    facts: dict[str, Any] = {"seconds": progress.seconds, "wer": progress.wer}
    match error:
        case None:
            facts["reason"] = "finished" if spent else "patience"
        case StoppedError() | GeneratorExit() | KeyboardInterrupt():
            facts["reason"] = "stopped"
        case _:
            facts["reason"] = "failed"
            facts["message"] = str(error) if isinstance(error, EchoError) else repr(error)
    checkpoints = CheckpointFolder(run)
    best = [path for _, path in checkpoints.measured()]
    facts["best"] = str(best[0]) if best else None
    last = checkpoints.newest()
    facts["last"] = str(last[0]) if last else None
    return facts


def budget(config: RunConfig) -> str:
    """ "2000 steps", "600 s", or both."""
    train = config.train
    parts = [f"{train.max_steps} steps"] if train.max_steps else []
    parts += [f"{train.max_seconds:g} s"] if train.max_seconds else []
    return " or ".join(parts)


def millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"


def named(layers: list[AttentionSettings]) -> str:
    """ "plain 2, adaptive 2": the forms of successive layers."""
    groups = [(form, len([*group])) for form, group in groupby(layer.form for layer in layers)]
    return ", ".join(f"{form} {count}" for form, count in groups)


def ending(run: Path, progress: Progress) -> str:
    """Lines on what training came to, where the model is, and what to do next."""
    lines = [f"Trained {progress.step} steps in {progress.seconds:.0f} s"]
    events = read_evaluations(run)
    if progress.wer is not None and events:
        lines += measured(events)
    checkpoints = CheckpointFolder(run)
    kept = [path for _, path in checkpoints.measured()] or checkpoints.newest()
    which = "best" if checkpoints.measured() else "last"
    lines.append(f"The {which} model is in {kept[0]}/")
    lines.append(f"Next: echo-asr evaluate {run} DATA --checkpoint {which}")
    return "\n".join(lines)


def measured(events: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each evaluation set: its WER at last, at the best step, and before training."""
    first, last = events[0], events[-1]
    best = min(events, key=lambda event: (event["wer"], event["step"]))
    for name, wer in measured_wers(last).items():
        parts = [f"{percent(wer)} at step {last['step']}"]
        if best["step"] != last["step"]:
            parts.append(f"{percent(measured_wers(best)[name])} at best, at step {best['step']}")
        if first["step"] == 0:
            parts.append(f"{percent(measured_wers(first)[name])} before training")
        yield f"WER{f' of {name}' if name else ''}: {'; '.join(parts)}"
