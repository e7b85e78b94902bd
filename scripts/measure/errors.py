"""Errors of runs that a pilot has measured, as each run decodes, and how they differ from the first
model's, with intervals over seeds and utterances:

    python scripts/measure/errors.py --characters runs/pilot_speech/*/seed-*
"""

import argparse
from dataclasses import replace
from pathlib import Path

from seeds import by_model, estimates, percent

from echo.evaluate.decodings import JOINT
from echo.evaluate.lines import read_utterances
from echo.evaluate.wer import ErrorCounts, character_errors, total, word_errors
from echo.support.text import table


def counts(run: str, options: argparse.Namespace) -> list[ErrorCounts]:
    """Returns the errors of each utterance: in characters as written, or in normalised words."""
    count, form = (character_errors, "") if options.characters else (word_errors, "_normalised")
    lines = read_utterances(Path(run) / JOINT.folder)
    found = [
        count([lines[key][f"reference{form}"]], [lines[key][f"hypothesis{form}"]])
        for key in sorted(lines)
        if options.only in key
    ]
    return [*map(capped, found)] if options.capped else found


def capped(found: ErrorCounts) -> ErrorCounts:
    errors = min(found.errors, found.reference)
    return replace(found, substitutions=errors, deletions=0, insertions=0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--characters", action="store_true", help="not words")
    parser.add_argument("--only", default="", help="utterances whose name has this in it")
    parser.add_argument(
        "--capped", action="store_true", help="count a row that repeats itself as all wrong, once"
    )
    options = parser.parse_args()
    models = by_model(options.runs)
    counted = {name: [counts(run, options) for run in runs] for name, runs in models.items()}
    columns = ["model", "of each seed", "errors, %", f"less those of {next(iter(models))}"]
    rows = [
        [
            name,
            ", ".join(f"{100 * total(run).rate:.1f}" for run in counted[name]),
            *(percent(each, 1) for each in found),
        ]
        for name, found in estimates(counted).items()
    ]
    print(table(columns, rows, texts=2))


if __name__ == "__main__":
    main()
