"""From recordings to batches: Echo's features beside WhisperFeatureExtractor's, and what a cache
of decoded recordings saves.

The same batches of `--data` (anything that training takes) are made in every way, in one process,
with one thread and in turn, so that a noisy machine disturbs all alike. Ratios are medians of the
ratios within a turn. Echo's time includes tokens, SpecAugment and collation, which the extractor's
does not.

    python scripts/bench/input.py --data ../shared/data/speechocean762/train.jsonl
"""

import argparse
import random
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from transformers import WhisperFeatureExtractor
from turns import Turns

from echo.config import DataSettings
from echo.data.audio import AudioArray
from echo.data.batch import Collator
from echo.data.batching import Item
from echo.data.cache import AudioCache
from echo.data.examples import ExampleReader
from echo.data.features import log_mel
from echo.data.loading import TrainingSet
from echo.data.sources import read_source
from echo.data.tokenizer import train_tokenizer
from echo.data.utterance import FixedCorpus, Utterance
from echo.model.geometry import SAMPLE_RATE, Limits

Way = Callable[[Sequence[int]], object]  # makes a batch of the utterances at some indices


def training(utterances: list[Utterance], reader: ExampleReader, speeds: Sequence[float]) -> Way:
    """As a worker makes its batches."""
    dataset = TrainingSet(FixedCorpus(utterances, []), reader, DataSettings(), seed=0)
    collate = Collator(reader.tokenizer.pad_token_id)
    return lambda batch: collate([dataset[Item(0, i, speeds[i % len(speeds)])] for i in batch])


def ways_to_batches(utterances: list[Utterance], cache: AudioCache) -> dict[str, Way]:
    arrays = [u.audio.load().numpy() for u in utterances]
    samples = [torch.from_numpy(array) for array in arrays]
    decoded = [
        Utterance(u.id, AudioArray(array, SAMPLE_RATE, u.id), u.text, u.duration)
        for u, array in zip(utterances, arrays, strict=True)
    ]
    cached = cache.over(utterances)
    extractor = WhisperFeatureExtractor()
    reader = ExampleReader(train_tokenizer([u.text for u in utterances]), Limits(80, 3000, 448))
    speeds = DataSettings().augment.speed

    def extract(padding: str) -> Way:
        return lambda batch: extractor(
            [arrays[i] for i in batch],
            sampling_rate=SAMPLE_RATE,
            padding=padding,
            return_tensors="pt",
        )

    return {
        "log_mel": lambda batch: [log_mel(samples[i], 80) for i in batch],
        "batch of samples": training(decoded, reader, [1.0]),
        "extractor, 30 s": extract("max_length"),
        "extractor, longest": extract("longest"),
        "decoding": lambda batch: [utterances[i].audio.load() for i in batch],
        "cache": lambda batch: [cached[i].audio.load() for i in batch],
        "batch, decoded": training(utterances, reader, speeds),
        "batch, cached": training(cached, reader, speeds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--utterances", type=int, default=96)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    utterances = random.Random(0).sample(read_source(arguments.data), arguments.utterances)
    utterances.sort(key=lambda u: u.duration)  # like lengths share a batch, as in training
    starts = range(0, len(utterances), arguments.batch)
    batches = [range(len(utterances))[start : start + arguments.batch] for start in starts]
    with tempfile.TemporaryDirectory() as folder:
        ways = ways_to_batches(utterances, AudioCache(Path(folder), 10**10))
        turns = Turns(warm=len(batches))  # the first round fills the cache
        for batch in batches * (1 + arguments.turns):
            turns.take({name: partial(way, batch) for name, way in ways.items()})

    audio = sum(u.duration for u in utterances)
    print(f"{len(utterances)} utterances, {audio:.0f} s, in batches of {arguments.batch}")
    for name, values in turns.seconds.items():
        print(f"{name:18} {1000 * sum(values) / arguments.turns / audio:6.3f} ms a second of audio")
    for slower, faster, what in (
        ("extractor, 30 s", "log_mel", "the extractor, padding to 30 s, against log_mel"),
        ("extractor, longest", "log_mel", "the extractor, padding to the longest, against log_mel"),
        ("extractor, 30 s", "batch of samples", "the same to 30 s, against a batch of samples"),
        ("extractor, longest", "batch of samples", "to the longest, against a batch of samples"),
        ("decoding", "cache", "decoding against the cache"),
        ("batch, decoded", "batch, cached", "a training batch without against with the cache"),
    ):
        print(f"{what}: {turns.ratio(slower, faster):5.1f} x")


if __name__ == "__main__":
    main()
