"""Trains one of a pilot's models with every combination of some settings, on the dev split.

    python scripts/measure/grid.py configs/pilot.yaml whisper --out runs/grid/whisper \
        --vary train.learning_rate=1.5e-3,3e-3 model.conv_gain=1,2,3 \
        --set train.max_steps=1000 data.root=PATH

Gives each model of a comparison the same search for its own best settings. All combinations train
in turn, as in a pilot; OUT/grid.md has a row for each, the best first.
"""

import argparse
from itertools import product
from pathlib import Path
from typing import Any

from echo.pilot.contenders import own_settings, read_pilot
from echo.pilot.run import run_pilot
from echo.support.files import replace_text
from echo.support.settings import apply_overrides
from echo.support.text import table
from echo.support.yaml import read_yaml


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="a pilot's config")
    parser.add_argument("model", help="which of its models")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vary", nargs="+", required=True, metavar="KEY=VALUE,VALUE")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--seeds", default="1")
    arguments = parser.parse_args()
    content = read_yaml(arguments.config)
    own = own_settings(content["models"][arguments.model], arguments.config, arguments.model)
    keys = [axis.partition("=")[0] for axis in arguments.vary]
    values = [axis.partition("=")[2].split(",") for axis in arguments.vary]
    combinations = {"-".join(chosen): chosen for chosen in product(*values)}
    content["models"] = {
        name: apply_overrides(own, [f"{k}={v}" for k, v in zip(keys, chosen, strict=True)])
        for name, chosen in combinations.items()
    }
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    pilot = read_pilot(content, arguments.config, ["data.split=dev", *arguments.settings], seeds)
    result = run_pilot(pilot, arguments.out)
    text = render(keys, combinations, result["models"])
    replace_text(arguments.out / "grid.md", text)
    print(text)


def render(keys: list[str], combinations: dict[str, Any], models: list[dict[str, Any]]) -> str:
    rows = [
        [*combinations[m["model"]], percent(m["wer"]), percent(m["wer_decoder"])]
        for m in sorted(models, key=lambda m: m["wer"]["mean"])
    ]
    return table([*keys, "WER %", "WER %, decoder alone"], rows) + "\n"


def percent(spread: dict[str, float]) -> str:
    return f"{100 * spread['mean']:.2f}"


if __name__ == "__main__":
    main()
