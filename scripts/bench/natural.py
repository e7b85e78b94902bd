"""RTFx and WER of a fine-tuned model at natural length and padded to 30 s, in turn:

python scripts/bench/natural.py RUN --data ../shared/data/speechocean762/dev.jsonl
"""

import argparse
import time
from functools import partial

import torch
from turns import Turns

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
    errors = {name: ErrorCounts(0, 0, 0, 0) for name in lengths}
    turns = Turns(clock=time.process_time)
    for start in range(0, len(utterances), PART):
        part = utterances[start : start + PART]
        found = turns.take(
            {
                name: partial(evaluate_model, loaded, part, pad_to_seconds=padded)
                for name, padded in lengths.items()
            }
        )
        for name, evaluation in found.items():
            errors[name] += evaluation.wer_normalised
    audio = sum(u.duration for u in utterances)
    for name in lengths:
        rtfx, rate = audio / sum(turns.seconds[name]), 100 * errors[name].rate
        print(f"{name:8} RTFx {rtfx:5.1f}, WER {rate:.2f} %, normalised")
    ratio = turns.ratio("30 s", "natural")
    print(f"natural length takes 1 / {ratio:.1f} of the processor's time")


if __name__ == "__main__":
    main()
