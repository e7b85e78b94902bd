"""How much of the training batches is padding, held whole and streamed:

python scripts/measure/padding.py TRAIN.jsonl --seconds 60 40
"""

import argparse
from collections.abc import Sequence

from echo.data.batching import EpochBatches, Position
from echo.data.corpora.stream import StreamCorpus, Weighted
from echo.data.sources import read_source
from echo.data.utterance import FixedCorpus, Utterance

SPEEDS = [0.9, 1.0, 1.1]


def padding(sampler: EpochBatches, utterances: Sequence[Utterance]) -> float:
    """The share of an epoch's frames that no utterance has."""
    audio = batched = 0.0
    for block in range(sampler.blocks(0)):
        for batch in sampler.block_batches(0, block):
            rows = [i.row if isinstance(i.row, Utterance) else utterances[i.index] for i in batch]
            seconds = [u.duration / i.speed for u, i in zip(rows, batch, strict=True)]
            audio += sum(seconds)
            batched += len(batch) * max(seconds)
    return 1 - audio / batched


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--seconds", type=float, nargs="+", default=[60.0, 40.0])
    parser.add_argument("--shard-size", type=int, nargs="+", default=[250, 100, 25])
    arguments = parser.parse_args()
    utterances = read_source(arguments.data)
    for limit in arguments.seconds:
        rest = (1, limit, 64, SPEEDS, Position())
        whole = EpochBatches(FixedCorpus(utterances, []), *rest)
        print(f"{limit:g} s a batch, held whole: {padding(whole, utterances):.1%}")
        for size in arguments.shard_size:
            starts = range(0, len(utterances), size)
            shards = [utterances[start : start + size] for start in starts]
            stream = EpochBatches(StreamCorpus([Weighted(shards)], [], 1, 8), *rest)
            share = padding(stream, utterances)
            print(f"{limit:g} s a batch, streamed, {8 * size} utterances a block: {share:.1%}")


if __name__ == "__main__":
    main()
