"""Makes long recordings and their texts, as docs/tutorial.md begins with, of utterances:

python scripts/measure/long.py ROWS.jsonl --out FOLDER [--recordings 12] [--minutes 5]

Joins utterances in their order, with pauses of their own room noise between them, and writes
FOLDER/recordings/NUMBER.flac and FOLDER/texts/NUMBER.txt, whose lines name their speakers.
"""

import argparse
import random
from pathlib import Path

import soundfile
from align import spoken

from echo.data.sources import ReadOptions, read_source
from echo.model.geometry import SAMPLE_RATE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", help="utterances of named speakers, who begin one recording each")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--recordings", type=int, default=12)
    parser.add_argument("--minutes", type=float, default=5)
    options = parser.parse_args()
    rows = read_source(options.rows, ReadOptions(allow_outside=True))
    rng = random.Random(0)
    for kind in ("recordings", "texts"):
        (options.out / kind).mkdir(parents=True)
    for number in range(1, options.recordings + 1):
        made = spoken(rows, options.minutes, rng)
        said, rows = rows[: len(made.voices)], rows[len(made.voices) :]
        path = options.out / "recordings" / f"{number:02}.flac"
        soundfile.write(path, made.samples.numpy(), SAMPLE_RATE)
        lines = [f"- S{row.speaker}: {row.text}\n" for row in said]
        (options.out / "texts" / f"{number:02}.txt").write_text("".join(lines), encoding="utf-8")
        # No speaker is in two recordings.
        rows = [row for row in rows if row.speaker != said[-1].speaker]


if __name__ == "__main__":
    main()
