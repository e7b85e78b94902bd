"""All that only a GPU can tell, by one command in less than 8 minutes: whether kernels, compiled
graphs, half precision, training and sharding are right, whether the host waits, and how fast and
large a step is beside `transformers`. Models and recordings are made up, so nothing is needed.

    python scripts/check/gpu --out results/gpu
    python scripts/check/gpu --quick --out /tmp/gpu    # small, in seconds, also on a CPU

Writes check_gpu.json and check_gpu.md; exits with 1 if a check failed or crashed.
"""

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

sys.path.extend(
    str(Path(__file__).resolve().parents[up] / part) for up, part in ((3, ""), (2, "bench"))
)

import kernels
import speed
import torch
import training
from rows import CHECKS, Place, Row

ROOT = Path(__file__).resolve().parents[3]
ORDER = [module.__name__ for module in (kernels, training, speed)]


def table(rows: list[Row], title: str) -> str:
    lines = [
        f"# {title}",
        "",
        "| check | case | outcome | s | measured |",
        "|---|---|---|---:|---|",
    ]
    for row in rows:
        values = ", ".join(
            f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.values.items()
        )
        said = (row.reason or values).replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {row.check} | {row.case} | {row.outcome} | {row.seconds} | {said} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--only", help="part of the names of the checks to run")
    parser.add_argument("--minutes", type=float, default=7.5, help="after which none is begun")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    arguments.out.mkdir(parents=True, exist_ok=True)
    out = arguments.out.resolve()
    os.chdir(ROOT)  # where the configs are
    os.environ["PYTHONPATH"] = str(ROOT)  # of the processes that are launched
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    title = f"{name}, torch {torch.__version__}"
    started, rows = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        place = Place(device, arguments.quick, Path(folder))
        for check in sorted(CHECKS, key=lambda check: ORDER.index(check.run.__module__)):
            if arguments.only and arguments.only not in check.name:
                continue
            late = time.monotonic() - started > 60 * arguments.minutes
            row = check.becomes("skipped", "no time left") if late else check.row(place)
            rows.append(row)
            print(f"{row.outcome:8} {row.check} ({row.case}) {row.reason}", flush=True)
            # After each, so that what was measured stays if the process is ended.
            content = {"device": title, "rows": [asdict(row) for row in rows]}
            (out / "check_gpu.json").write_text(json.dumps(content, indent=1) + "\n")
            (out / "check_gpu.md").write_text(table(rows, title))
    sys.exit(any(row.outcome in ("failed", "crashed") for row in rows))


if __name__ == "__main__":
    main()
