"""RTFx and WER of a fine-tuned model at natural length and padded to 30 s, in turn:

python scripts/bench_natural.py RUN --data ../shared/data/speechocean762/dev.jsonl
"""

import argparse
import statistics
import time

import torch

from echo.checkpoints.load import load_model
from echo.data.loading import sample
from echo.data.sources import read_source
from echo.evaluate.evaluation import evaluate_model
from echo.evaluate.wer import ErrorCounts

PART = 20  # utterances that both lengths take in turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a model that was trained at natural length")
    parser.add_argument("--data", required=True)
    parser.add_argument("--utterances", type=int, default=200)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    loaded = load_model(arguments.model)
    utterances = sample(read_source(arguments.data), arguments.utterances)
    lengths = {"natural": None, "30 s": 30.0}
    seconds: dict[str, list[float]] = {name: [] for name in lengths}
    errors = {name: ErrorCounts(0, 0, 0, 0) for name in lengths}
    for start in range(0, len(utterances), PART):
        part = utterances[start : start + PART]
        for name, padded in lengths.items():
            started = time.process_time()
            found = evaluate_model(loaded, part, pad_to_seconds=padded)
            seconds[name].append(time.process_time() - started)
            errors[name] += found.wer_normalised
    audio = sum(u.duration for u in utterances)
    for name in lengths:
        rate = 100 * errors[name].rate
        print(f"{name:8} RTFx {audio / sum(seconds[name]):5.1f}, WER {rate:.2f} %, normalised")
    ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
    print(f"natural length takes 1 / {statistics.median(ratios):.1f} of the processor's time")


if __name__ == "__main__":
    main()
