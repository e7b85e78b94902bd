"""Mean and spread of several pilots that differ in their seed.

    for seed in 1 2 3; do
        echo-asr pilot --config configs/pilot_digits.yaml data.root=PATH seed=$seed \
            --out runs/digits-$seed
    done
    python scripts/summarise_pilots.py runs/digits-*

The last column is WER on the part of the evaluation set that is measured during training, at the
last measurement that both models had reached within the same seconds of training.
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from echo.train.recorder import read_metrics


def at_equal_seconds(pilot: Path, models: list[str]) -> dict[str, float]:
    """Each model's last WER measured before the quickest of them was done."""
    curves = {m: [e for e in read_metrics(pilot / m) if e["kind"] == "eval"] for m in models}
    budget = min(curve[-1]["seconds"] for curve in curves.values())
    return {m: [e["wer"] for e in c if e["seconds"] <= budget][-1] for m, c in curves.items()}


def spread(values: list[float], scale: float = 1.0, digits: int = 2) -> str:
    mean, low, high = (scale * f(values) for f in (statistics.mean, min, max))
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main(folders: list[str]) -> None:
    rows: dict[str, list[dict[str, Any]]] = {}
    for folder in map(Path, folders):
        models = json.loads((folder / "pilot.json").read_text())["models"]
        equal = at_equal_seconds(folder, [m["model"] for m in models])
        for model in models:
            rows.setdefault(model["model"], []).append({**model, "equal": equal[model["model"]]})
    print(f"{len(folders)} seeds: mean (least to most)\n")
    print("| model | WER % | CER % | training s | final loss | WER % at equal seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, runs in rows.items():
        cells = (
            spread([100 * r["wer"]["rate"] for r in runs]),
            spread([100 * r["cer"]["rate"] for r in runs]),
            spread([r["train_seconds"] for r in runs], digits=0),
            spread([r["final_loss"] for r in runs], digits=3),
            spread([100 * r["equal"] for r in runs]),
        )
        print("| " + " | ".join([name, *cells]) + " |")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
