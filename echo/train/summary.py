"""What a run says of itself at its beginning and at its end."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import torch
from accelerate import Accelerator

from echo.attention.settings import AttentionSettings
from echo.checkpoints.run import CheckpointFolder, Progress
from echo.config import RunConfig
from echo.data.batching import EpochBatches, Position
from echo.data.corpora.stream import AnyCorpus, StreamCorpus
from echo.model.geometry import Limits
from echo.model.model import EchoForConditionalGeneration
from echo.support.text import percent
from echo.train.recorder import read_metrics


def beginning(
    config: RunConfig,
    corpus: AnyCorpus,
    model: EchoForConditionalGeneration,
    accelerator: Accelerator,
) -> Iterator[str]:
    """Sentences on the data, the model, the machine and the budget."""
    train, world = config.train, accelerator.num_processes
    if isinstance(corpus, StreamCorpus):
        yield f"data: a stream; {budget(config)}"
    else:
        utterances = corpus.train_epoch(0)
        hours = sum(utterance.duration for utterance in utterances) / 3600
        data = config.data
        batches = EpochBatches(
            corpus,
            config.seed,
            data.max_batch_seconds,
            data.max_batch_size,
            data.augment.speed,
            Position(),
            limits=Limits.of(model.config),
        ).block_batches(0, 0)
        steps = len(batches) / (train.accumulation * world)
        silent = sum(not utterance.text for utterance in utterances)
        speechless = f", {silent} of them without speech" if silent else ""
        epochs = f", {train.max_steps / steps:.1f} epochs" if train.max_steps else ""
        yield (
            f"data: {len(utterances)} utterances{speechless}, {hours:.2f} hours, "
            f"{steps:g} steps an epoch; "
            f"{budget(config)}{epochs}"
        )
    every = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    yield (
        f"model: {millions(every)} parameters, {millions(trained)} of them trained; attention: "
        f"{named(model.config.encoder_attention())} in the encoder, "
        f"{named(model.config.decoder_attention())} in the decoder"
    )
    kind = accelerator.device.type
    device = torch.cuda.get_device_name(accelerator.device) if kind == "cuda" else kind
    precision = {"no": "fp32"}.get(accelerator.mixed_precision, accelerator.mixed_precision)
    yield f"device: {device}, {precision}, {world} process{'es' if world > 1 else ''}"


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
    if progress.wer is not None:
        wers = [f"{percent(progress.wer)} at step {progress.wer_step}"]
        events = [event for event in read_metrics(run) if event["kind"] == "eval"]
        best = min(events, key=lambda event: (event["wer"], event["step"]), default=None)
        if best is not None and best["step"] != progress.wer_step:
            wers.append(f"{percent(best['wer'])} at best, at step {best['step']}")
        if events and events[0]["step"] == 0:
            wers.append(f"{percent(events[0]['wer'])} before training")
        lines.append(f"WER: {'; '.join(wers)}")
    checkpoints = CheckpointFolder(run)
    kept = [path for _, path in checkpoints.measured()] or checkpoints.newest()
    which = "best" if checkpoints.measured() else "last"
    lines.append(f"The {which} model is in {kept[0]}/")
    lines.append(f"Next: echo-asr evaluate {run} DATA --checkpoint {which}")
    return "\n".join(lines)
