"""Measures labels: how many errors the most confident have, whether two processes write the same as
one and how much faster, and what a kill loses.

    python scripts/measure/label.py openai/whisper-tiny.en --data dev.jsonl --out results/label

The times need a machine that does nothing else. Every process has one thread.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from echo.data.loading import sample
from echo.data.prepare.rows import file_path
from echo.data.sources import read_source
from echo.data.tokenizer import load_tokenizer
from echo.evaluate.normaliser import normaliser
from echo.evaluate.wer import word_errors
from echo.support.files import new_folder, read_object
from echo.transcribe.label.shards import MANIFEST

SHARE = 0.8  # of the labels, the most confident


def start(data: Path, out: Path, model: str, shard: int, part: str = "1/1") -> subprocess.Popen:
    command = [sys.executable, "-m", "echo", "data", "label", str(data), "--model", model]
    command += ["--out", str(out), "--rows", str(shard), "--part", part, "--allow-outside"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def seals(out: Path) -> list[Path]:
    return sorted(out.glob("*.seal.json"))


def finish(*processes: subprocess.Popen) -> None:
    for process in processes:
        if process.wait():
            raise SystemExit(f"{process.args!r} ended with {process.returncode}")


def errors_of_confident(rows: Sequence[dict[str, Any]], model: str) -> dict[str, float]:
    normalise = normaliser("en", load_tokenizer(Path(model)))

    def wer(some: Sequence[dict[str, Any]]) -> float:
        said, heard = ([normalise(row[key]) for row in some] for key in ("said", "label"))
        return word_errors(said, heard).rate

    sure = sorted(rows, key=lambda row: -row["confidence"])[: round(SHARE * len(rows))]
    return {"wer": wer(rows), "wer_confident": wer(sure), "ratio": wer(sure) / wer(rows)}


def compare_processes(data: Path, out: Path, model: str, shard: int) -> dict[str, Any]:
    """Labels in two processes; then in one that is killed at its second shard, and goes on."""
    began = time.perf_counter()
    finish(*(start(data, out / "two", model, shard, f"{part}/2") for part in (1, 2)))
    two = time.perf_counter() - began
    process = start(data, out / "killed", model, shard)
    while not seals(out / "killed"):
        time.sleep(0.05)
    process.kill()
    process.wait()
    sealed = len(seals(out / "killed"))
    times = [path.stat().st_mtime_ns for path in seals(out / "killed")]
    finish(start(data, out / "killed", model, shard))
    kept = [path.stat().st_mtime_ns for path in seals(out / "killed")][:sealed] == times
    one = (out / "one" / MANIFEST).read_bytes()
    work = {
        name: [read_object(path)["seconds"] for path in seals(out / name)]
        for name in ("one", "two")
    }
    return {
        "seconds_of_two": two,
        "two_equal_one": (out / "two" / MANIFEST).read_bytes() == one,
        "killed_equals_one": (out / "killed" / MANIFEST).read_bytes() == one,
        "kept_after_kill": kept,
        "speedup_of_work": sum(work["one"]) / max(sum(work["two"][i::2]) for i in (0, 1)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="the folder of a model")
    parser.add_argument("--data", required=True, help="a data set with texts, in files")
    parser.add_argument("--rows", type=int, default=200, help="of the data set")
    parser.add_argument("--shard", type=int, default=20, help="rows in a shard")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--errors-only", action="store_true", help="label in one process only")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    options = parser.parse_args()
    new_folder(options.out)
    options.out.mkdir(parents=True, exist_ok=True)
    rows = sample(read_source(options.data), options.rows, options.seed)
    data = options.out / "rows.jsonl"
    lines = [{"audio_filepath": str(file_path(u.audio)), "said": u.text} for u in rows]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    began = time.perf_counter()
    finish(start(data, options.out / "one", options.model, options.shard))
    found: dict[str, Any] = {"seconds_of_one": time.perf_counter() - began}
    labelled = (options.out / "one" / MANIFEST).read_text(encoding="utf-8").splitlines()
    found |= errors_of_confident([*map(json.loads, labelled)], options.model)
    if not options.errors_only:
        found |= compare_processes(data, options.out, options.model, options.shard)
        found["speedup"] = found["seconds_of_one"] / found["seconds_of_two"]
    text = json.dumps(found, indent=1)
    (options.out / "label.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
