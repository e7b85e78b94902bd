"""Seconds and memory that made-up rows take until training has its first batch, and to split them:

python scripts/measure/size.py RECORDINGS.jsonl --init MODEL [--rows 1000000] [--folder FOLDER]

Each row has an id, a speaker, a duration, 12 made-up words, and a hard link to one of a few
recordings of a manifest. Each figure is of a process from its start, with all its workers; in the
memory, pages that they share are counted once.
"""

import argparse
import json
import multiprocessing
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import psutil

WORDS = [
    a + b for a in ["ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu"] for b in "nrst"
]
USED = 50  # recordings of the manifest
FILES = 10_000  # links to them, which the rows name in turn


def write_rows(recordings: Path, folder: Path, count: int) -> Path:
    """Writes rows of speakers who have about 50 each; of a hundred texts one is two speakers'."""
    with recordings.open() as lines:
        real = [json.loads(line) for line in islice(lines, USED)]
    for number, row in enumerate(real):
        content = (recordings.parent / row["audio_filepath"]).read_bytes()
        (folder / f"real-{number}.opus").write_bytes(content)
    names = [f"{i}.opus" for i in range(min(count, FILES))]
    for i, name in enumerate(names):
        os.link(folder / f"real-{i % len(real)}.opus", folder / name)
    draw = random.Random(0)
    manifest = folder / "rows.jsonl"
    text = ""
    with manifest.open("w") as file:
        for i in range(count):
            if i % 100:
                text = " ".join(draw.choices(WORDS, k=12))
            speaker = draw.randrange(max(1, count // 50))
            row = {
                "id": f"utterance-{i}",
                "audio_filepath": names[i % FILES],
                "duration": real[i % FILES % len(real)]["duration"],
                "text": text,
                "speaker": f"s{speaker}",
                "gender": "fm"[speaker % 2],
            }
            file.write(json.dumps(row) + "\n")
    return manifest


def train(manifest: str, small: str, init: str | None, out: str) -> None:
    """Starts training as `echo-asr train` does, up to its first batch."""
    from echo.config import load_config
    from echo.train.run import started_trainer
    from echo.train.summary import beginning

    overrides = [f"init={init}", f"data.train={manifest}", f"data.eval={small}"]
    config = load_config("configs/finetune.yaml", overrides)
    trainer = started_trainer(config, Path(out) / "run")
    model = trainer.state.unwrapped
    beginning(config, trainer.corpus, trainer.reader, model, trainer.accelerator)
    next(trainer.batches())


def split(manifest: str, out: str) -> None:
    from echo.data.prepare.split import Size, split_source

    sizes = {"dev": Size(5, "%"), "test": Size(5, "%")}
    split_source(manifest, Path(out) / "split", sizes, ["speaker", "text"], ["gender"])


def measured(work: Callable[[], None]) -> tuple[float, float, int]:
    """Returns the seconds that a function takes in a new process, those of processor time, and the
    bytes at the peak."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = multiprocessing.get_context("spawn").Process(target=work)
    process.start()
    assert process.pid is not None
    peak = 0
    while process.is_alive():
        peak = max(peak, memory(process.pid))
        process.join(1)
    if process.exitcode:
        raise SystemExit(process.exitcode)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, worked, peak


def memory(pid: int) -> int:
    """Returns the bytes that a process and its children take; shared pages count once."""
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
        return sum(each.memory_full_info().pss for each in family)
    except psutil.Error:
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recordings", type=Path, help="a manifest of recordings")
    parser.add_argument("--init", required=True, help="the checkpoint to fine-tune")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the rows are written, and then deleted")
    arguments = parser.parse_args()
    print("| rows | work | seconds | CPU seconds | peak, GB |\n| ---: | --- |" + " ---: |" * 3)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        manifest = str(write_rows(arguments.recordings, Path(name), arguments.rows))
        small = str(arguments.recordings)
        for title, work in {
            "first batch of training": partial(train, manifest, small, arguments.init, name),
            "split": partial(split, manifest, name),
        }.items():
            seconds, worked, peak = measured(work)
            cells = f"{title} | {seconds:.1f} | {worked:.1f} | {peak / 1e9:.2f}"
            print(f"| {arguments.rows} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
