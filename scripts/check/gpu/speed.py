"""How fast and how large: Echo beside `transformers`' Whisper, on the same device in turn."""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from finetuning import PLAIN, batch_size, echo_steps, recipe_steps
from models import echo, inputs, manifest, size_here, whisper, whisper_folder
from rows import Place, SkippedError, check
from torch.nn import functional as F
from turns import Turns, now, speed

from echo.checkpoints.convert import convert
from echo.config import load_config
from echo.support.memory import PeakMemory

FORMS: dict[str, Any] = {
    "plain": "plain",
    "blocks": {"form": "adaptive"},
    "flex": {"form": "adaptive", "local_kernel": "flex"},
    "hybrid": {"form": "hybrid"},
}


def stepper(model: Any, given: dict[str, torch.Tensor]) -> Callable[[], None]:
    """One step of bf16 training: forward, backward, AdamW."""
    device = given["labels"].device
    model = model.to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=device.type == "cuda")
    batch = {key: value for key, value in given.items() if key != "labels"}

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(**batch, use_cache=False).logits
        F.cross_entropy(logits.float().flatten(0, 1), given["labels"].flatten()).backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


@check(*((size, seconds) for size in ("tiny", "base", "small") for seconds in (5, 30)))
def step_time_and_memory(place: Place, size: str, seconds: int) -> dict[str, Any]:
    """Milliseconds and megabytes of a step of 8 recordings; `transformers`' Whisper takes 30 s of
    features whatever their length."""
    if place.quick and (size, seconds) != ("tiny", 5):
        raise SkippedError("not when quick")
    count = 1 if place.quick else 8
    size = size_here(place, size)
    given = inputs(count, seconds / 5 if place.quick else seconds, place.device)
    padded = inputs(count, 30, place.device)
    del padded["attention_mask"]
    steps = {"transformers": stepper(whisper(size), padded)}
    for name in ("plain", "blocks") if place.quick else FORMS:
        steps[name] = stepper(echo(size, FORMS[name]), given)
    turns = Turns(warm=2)
    for _ in range(3 if place.quick else 10):
        turns.take(steps)
    found: dict[str, Any] = {}
    for name, step in steps.items():
        with PeakMemory(place.device) as peak:
            step()
            now()
        found[f"{name}_ms"] = round(1000 * turns.median(name), 2)
        found[f"{name}_mb"] = round(peak.added / 1e6)
        found[f"{name}_ratio"] = round(turns.median(name) / turns.median("transformers"), 3)
    return found


@check()
def utterances_per_second_beside_seq2seqtrainer(place: Place) -> dict[str, Any]:
    """Fine-tuning in bf16 on recordings of 2 to 15 s, decoding included, by as many workers; as
    scripts/bench/finetuning.py, which measures it at length."""
    data, source = manifest(place), whisper_folder(place)
    workers, rounds, steps = (0, 1, 1) if place.quick else (6, 4, 10)
    contenders = {}
    for name, attention in (("echo", []), ("whisper_in_echo", PLAIN)):
        convert(source, place.folder / name, attention)
        overrides = {
            "init": place.folder / name,
            "data.train": data,
            "data.eval": data,
            "data.workers": workers,
            "data.max_batch_seconds": 10 if place.quick else 240,
            "data.timestamps": 0,
            "train.precision": "bf16",
        }
        config = load_config("configs/finetune.yaml", [f"{k}={v}" for k, v in overrides.items()])
        contenders[name] = echo_steps(config)
    size = batch_size(contenders)
    folder = str(place.folder / "recipe")
    contenders["transformers"] = recipe_steps(source, data, size, folder, workers, bf16=True)
    next(contenders["transformers"])
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, own in contenders.items():
            found[name].append(speed(own, steps))
    medians = {name: round(statistics.median(values), 2) for name, values in found.items()}
    return {
        "batch_size": size,
        **medians,
        "times": round(medians["echo"] / medians["transformers"], 2),
    }
