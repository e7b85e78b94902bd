"""How much fine-tuned models learn and forget: normalised WER on their own kind of speech and on
another, of the start, of each model, and of its averages with the start, padded as each pads.

Runs named `seed-N` in one folder are one model with several seeds, as a pilot writes them:

    echo-asr pilot --config configs/pilot_finetune.yaml init=WHISPER data.train=TRAIN \
        data.eval=OWN --seeds 1,2,3
    python scripts/measure/forgetting.py --start WHISPER --own OWN --general OTHER \
        --out OUT RUNS/*/seed-*

A share in the name of a row is the fine-tuned model's in its average with the start. What is
measured already is kept in OUT, which is for one pair of sets.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from seeds import by_model, estimates, percent

from echo.checkpoints.load import load_model
from echo.checkpoints.merge import merge_models
from echo.data.loading import sample
from echo.data.sources import ReadOptions, read_source
from echo.data.utterance import Utterance
from echo.evaluate.evaluation import evaluate_model
from echo.evaluate.wer import ErrorCounts
from echo.support.files import replace_text
from echo.support.text import table

Counts = dict[str, list[ErrorCounts]]  # of each utterance, by set


def word_errors(model: str, sets: Mapping[str, Sequence[Utterance]], kept: Path) -> Counts:
    """Measures a model, or reads what was kept of an earlier measurement."""
    if not kept.exists():
        loaded = load_model(model, "last")
        found = {n: evaluate_model(loaded, each).words_normalised for n, each in sets.items()}
        content = {name: [asdict(each) for each in counts] for name, counts in found.items()}
        replace_text(kept, json.dumps(content))
    content = json.loads(kept.read_text())
    return {name: [ErrorCounts(**each) for each in counts] for name, counts in content.items()}


def rows(
    arguments: argparse.Namespace, sets: Mapping[str, Sequence[Utterance]]
) -> Iterator[tuple[str, list[Counts]]]:
    """Yields each row's name and the errors of its runs."""
    models, out = by_model(arguments.runs), arguments.out
    start = word_errors(arguments.start, sets, out / "start.json")
    yield "start", [start] * len(next(iter(models.values())))
    for name, runs in models.items():
        yield name, [word_errors(run, sets, out / f"{run_name(run)}.json") for run in runs]
        for share in arguments.shares:
            found = []
            for run in runs:
                mean = out / f"{run_name(run)}-{share:g}"
                if not mean.exists():
                    merge_models([arguments.start, run], (1 - share, share), mean, "last")
                found.append(word_errors(str(mean), sets, mean.with_suffix(mean.suffix + ".json")))
            yield f"{name}, {share:g}", found


def run_name(run: str) -> str:
    """Returns what a run is kept as: its model and seed."""
    return "-".join(Path(run).parts[-2:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+")
    for name in ("--start", "--own", "--general"):
        parser.add_argument(name, required=True)
    parser.add_argument("--out", type=Path, required=True, help="a folder for what is measured")
    parser.add_argument("--shares", type=float, nargs="*", default=[0.75])
    parser.add_argument("--utterances", type=int, default=300, help="of each set")
    arguments = parser.parse_intermixed_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    sets = {}
    for name in ("own", "general"):
        options = ReadOptions(allow_outside=True)
        sets[name] = sample(read_source(getattr(arguments, name), options), arguments.utterances)
    counted = {}
    for row, errors in rows(arguments, sets):
        counted[row] = errors
        rates = [estimates({row: [run[name] for run in errors]})[row][0] for name in sets]
        print(row, *(percent(each, 2) for each in rates), sep=" | ", flush=True)
    first = next(name for name in counted if name != "start")
    compared = {first: counted[first], **counted}
    found = {
        name: estimates({row: [run[name] for run in runs] for row, runs in compared.items()})
        for name in sets
    }
    columns = ["model", *(f"{name}, {what}" for name in sets for what in ("WER", f"- {first}"))]
    lines = [
        [row, *(percent(each, 2) for name in sets for each in found[name][row])] for row in counted
    ]
    print(table(columns, lines, texts=1))


if __name__ == "__main__":
    main()
