"""Time and memory that a split of made-up rows takes, by speaker, recording and sentence:

python scripts/measure/split.py --rows 1000000

Rows are parts of recordings that are never opened. Reading the rows alone is measured first.
"""

import argparse
import json
import random
import resource
import tempfile
import time
from pathlib import Path

from echo.data.prepare.split import Size, split_source
from echo.data.prepare.split_report import format_split
from echo.data.sources import scan_source

WORDS = [
    a + b for a in ["ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu"] for b in "nrst"
]


def write_rows(path: Path, count: int) -> None:
    """Writes rows of speakers who have about 50 each, in recordings of about 10; of a hundred texts
    one is two speakers'."""
    draw = random.Random(0)
    speakers = max(1, count // 50)
    made = set()
    with path.open("w") as file:
        text = ""
        for i in range(count):
            speaker = draw.randrange(speakers)
            name = f"{speaker}-{draw.randrange(5)}.wav"
            if name not in made:
                made.add(name)
                (path.parent / name).write_bytes(b"RIFF")
            if i % 100:
                text = " ".join(draw.choices(WORDS, k=12))
            row = {
                "audio_filepath": name,
                "offset": i,
                "duration": round(draw.uniform(1, 15), 3),
                "text": text,
                "speaker": f"s{speaker}",
                "gender": "fm"[speaker % 2],
            }
            file.write(json.dumps(row) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "rows.jsonl"
        write_rows(manifest, arguments.rows)
        start = time.process_time()
        for _ in scan_source(str(manifest)):
            pass
        read = time.process_time() - start
        start = time.process_time()
        sizes = {"dev": Size(5, "%"), "test": Size(5, "%")}
        split = split_source(str(manifest), Path(folder) / "split", sizes, stratify=["gender"])
        taken = time.process_time() - start
    print(format_split(split))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"\n{arguments.rows} rows: {read:.1f} s of processor time to read them, "
        f"and {taken - read:.1f} s more to split them; peak {peak:.2f} GiB"
    )


if __name__ == "__main__":
    main()
