"""The memory of a training step with each setting that lowers it:

python scripts/measure/memory.py configs/finetune.yaml init=MODEL data.train=TRAIN data.eval=DEV

Each row is measured on the costliest batches of the first epoch, as weights, optimiser state,
gradients and activations at the peak. The loss is that of the first batch, before any step.
"""

import argparse
import gc
import tempfile
import time
from pathlib import Path

from echo.config import load_config
from echo.data.batch import Batch, Collator
from echo.data.build import build_corpus
from echo.pilot.memory import resident
from echo.train.find_batch import Probe, sample_corpus
from echo.train.run import new_trainer

VARIANTS = {
    "as the config says": [],
    "gradient checkpointing": ["train.gradient_checkpointing=true"],
    "adafactor": ["train.optimiser=adafactor"],
    "both": ["train.gradient_checkpointing=true", "train.optimiser=adafactor"],
    "muon": ["train.optimiser=muon"],
    "LoRA": ["lora={rank: 16}"],
    "LoRA and gradient checkpointing": ["lora={rank: 16}", "train.gradient_checkpointing=true"],
}


def measure(path: str, overrides: list[str]) -> tuple[int, float, float]:
    """The bytes at the peak, the loss, and the seconds of a round of the costliest batches."""
    config = load_config(path, overrides)
    with tempfile.TemporaryDirectory() as run:
        trainer = new_trainer(
            config, Path(run), sample_corpus(build_corpus(config.data, config.seed))
        )
        probe = Probe(trainer)
        batches = probe.costliest(config.data.max_batch_seconds)
        collate = Collator(trainer.reader.tokenizer.pad_token_id)
        first = collate([probe.examples[item] for item in batches[0]])
        assert isinstance(first, Batch)
        device = trainer.accelerator.device
        loss = trainer.step.accumulate([first.to(device)])["loss"].item()
        probe.step_memory(batches[0])  # the first step makes the optimiser's state
        started = time.process_time()
        distinct = [items for i, items in enumerate(batches) if items not in batches[:i]]
        added = [probe.step_memory(items) or 0 for items in distinct]
        return resident(trainer.state) + max(added), loss, time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--settings", nargs="+", choices=VARIANTS, default=[*VARIANTS])
    arguments = parser.parse_args()
    print("| setting | peak, MB | of the first | loss | CPU seconds |\n| --- |" + " ---: |" * 4)
    first = None
    for name in arguments.settings:
        overrides = [*arguments.overrides, *VARIANTS[name]]
        peak, loss, seconds = measure(arguments.config, overrides)
        first = first or peak
        print(
            f"| {name} | {peak / 1e6:.0f} | {peak / first:.0%} | {loss:.6f} | {seconds:.1f} |",
            flush=True,
        )
        gc.collect()


if __name__ == "__main__":
    main()
