"""Seconds per training step: Echo beside plain Whisper, and beside 30 s padding.

Both models take the same batches of connected digits (`--data`, the Free Spoken Digit Dataset),
in one process and in turn, so that a noisy machine disturbs them alike.

    python scripts/bench/step.py --data ../shared/data/fsdd
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import Any

import torch
from turns import Turns, median_ratio

from echo.config import RunConfig
from echo.data.batch import Batch
from echo.data.batching import EpochBatches, Position
from echo.data.build import build_corpus
from echo.data.examples import ExampleReader
from echo.data.loading import training_loader
from echo.model.geometry import Limits
from echo.pilot.contenders import read_pilot
from echo.support.settings import merge
from echo.support.yaml import read_yaml
from echo.train.build import build_model, build_tokenizer
from echo.train.loop import Trainer


def load_batches(config: RunConfig, corpus, reader: ExampleReader, count: int) -> list[Batch]:
    sampler = EpochBatches(
        corpus,
        config.seed,
        config.data.max_batch_seconds,
        config.data.max_batch_size,
        config.data.augment.speed,
        Position(),
    )
    loader = training_loader(corpus, sampler, reader, config.data, config.seed)
    return list(islice(loader, count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="configs/pilot_digits.yaml")
    parser.add_argument("--data", required=True)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--padded-batches", type=int, default=3, help="also at 30 s; 0 for none")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--compile", action="store_true", help="also with train.compile")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    content = merge(
        read_yaml(arguments.config),
        {
            "data": {"root": arguments.data, "workers": 0},
            "train": {"precision": arguments.precision},
            "model": {"max_seconds": 30},
        },
    )
    contenders = read_pilot(content, arguments.config).contenders
    config = contenders[0].config
    corpus: Any = build_corpus(config.data, config.seed)
    tokenizer = build_tokenizer(config, corpus.train_epoch(0))
    trainers = {}
    for contender, compiled in product(
        contenders, (True, False) if arguments.compile else (False,)
    ):
        torch.manual_seed(0)
        own = contender.config
        own = replace(own, train=replace(own.train, compile=compiled))
        model = build_model(own, tokenizer)
        model.train()
        name = f"{contender.name}, compiled" if compiled else contender.name
        trainers[name] = Trainer(own, Path("unused"), corpus, model, tokenizer)
    limits = Limits.of(model.config)
    batches = load_batches(config, corpus, ExampleReader(tokenizer, limits), arguments.batches)

    turns = Turns(warm=15 if arguments.compile else 5)  # compiled for other shapes at first
    for batch in batches:
        turns.take(steps(trainers, batch))
    print(f"{len(batches) - turns.warm} batches of {config.data.max_batch_seconds:.0f} s of audio")
    baseline = list(trainers)[-1]
    for name in trainers:
        print(
            f"{name:17} median {1000 * turns.median(name):6.1f} ms a step, "
            f"{turns.ratio(name, baseline):.3f} times {baseline}"
        )

    if arguments.padded_batches:
        padding = ExampleReader(tokenizer, replace(limits, pad_to_seconds=30))
        padded, short = Turns(), Turns()
        for long, batch in zip(
            load_batches(config, corpus, padding, arguments.padded_batches), batches, strict=False
        ):
            padded.take(steps(trainers, long))
            short.take(steps(trainers, batch))
        for name in trainers:
            times = median_ratio(padded.seconds[name], short.seconds[name])
            print(f"{name:17} at 30 s padding: {times:.1f} times the time")


def steps(trainers: dict[str, Trainer], batch: Batch) -> dict[str, Callable[[], object]]:
    return {name: partial(trainer.step, [batch]) for name, trainer in trainers.items()}


if __name__ == "__main__":
    main()
