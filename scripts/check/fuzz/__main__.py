"""Gives every command hostile and unlucky inputs: damaged configs, checkpoints, manifests and
audio, strange folders, command lines and environments. Each must end with a result or with one
sentence and exit code 2, and leave no result beside an error. Where the right result is known,
because the input means the same as another, the command must find it.

    python scripts/check/fuzz --inputs 1000 --seed 1 --out results/fuzz
    python scripts/check/fuzz --seed 1 --only 17 --keep /tmp/kept    # one of them again

Writes fuzz.jsonl, a line for each input; prints what went wrong, and exits with 1 if anything did.
Models and recordings are made up, so nothing is needed.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}

from attempts import draw
from judge import Verdict, judge
from materials import make
from processes import Child, wait_for_one

SECONDS = 60.0  # of one input; most take less than one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--timeout", type=float, default=SECONDS, help="seconds of one input")
    parser.add_argument("--only", type=int, help="the number of one input, to try it again")
    parser.add_argument("--keep", type=Path, help="folder for what --only leaves")
    parser.add_argument("--out", type=Path, help="folder for fuzz.jsonl")
    arguments = parser.parse_args()
    numbers = range(arguments.inputs) if arguments.only is None else [arguments.only]
    with tempfile.TemporaryDirectory(prefix="echo-fuzz-") as folder:
        place = Path(folder)
        good = make(place / "good")
        started = time.monotonic()
        found = run_all(numbers, arguments, good, place)
        seconds = time.monotonic() - started
        if arguments.keep:
            (place / str(arguments.only)).rename(arguments.keep)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(verdict.to_dict()) + "\n" for verdict in found]
        (arguments.out / "fuzz.jsonl").write_text("".join(lines))
    ends = Counter("wrong" if v.fault else v.end for v in found)
    told = ", ".join(f"{count} {end}" for end, count in ends.most_common())
    print(f"{len(found)} inputs in {seconds:.0f} s, seed {arguments.seed}: {told}")
    sys.exit(bool(ends["wrong"]))


def run_all(
    numbers: "range | list[int]", arguments: argparse.Namespace, good: Path, place: Path
) -> list[Verdict]:
    """Tries all inputs, each in a process of its own, a few at a time."""
    found: list[Verdict] = []
    running: list[Child] = []
    waiting = list(numbers)
    while waiting or running:
        while waiting and len(running) < arguments.jobs:
            number = waiting.pop(0)
            attempt = draw(arguments.seed, number, good, place / str(number))
            running.append(Child(attempt, arguments.timeout))
        child = wait_for_one(running)
        running.remove(child)
        found.append(judge(child, good))
        if found[-1].fault:
            print(f"{found[-1]}\n", flush=True)
        if arguments.only is None:
            child.attempt.remove()
    return sorted(found, key=lambda verdict: verdict.number)


if __name__ == "__main__":
    main()
