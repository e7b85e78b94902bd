"""Character errors of runs that a pilot has measured, as each run decodes, and how they differ from
the first model's, with intervals over seeds and utterances:

    python scripts/measure/characters.py runs/pilot_speech/*/seed-*
"""

import argparse
from pathlib import Path

from seeds import by_model, estimates, percent

from echo.evaluate.decodings import JOINT
from echo.evaluate.lines import read_utterances
from echo.evaluate.wer import ErrorCounts, character_errors, total
from echo.support.text import table


def counts(run: str) -> list[ErrorCounts]:
    """Returns the character errors of each utterance."""
    lines = read_utterances(Path(run) / JOINT.folder)
    return [
        character_errors([lines[key]["reference"]], [lines[key]["hypothesis"]])
        for key in sorted(lines)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+")
    models = by_model(parser.parse_args().runs)
    counted = {name: [counts(run) for run in runs] for name, runs in models.items()}
    columns = ["model", "of each seed", "CER, %", f"less that of {next(iter(models))}"]
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
