"""How many planted faults `echo-asr data filter` finds, and how many clean rows it loses:

python scripts/measure/filter.py CLEAN.jsonl --out results/filter [--model MODEL] [--each 10]

Plants faults of every kind in rows of a clean data set, as many of each kind, filters it, and
writes a table of what was found, as Markdown. Of swapped texts, a filter without a model finds
those whose lengths differ.
"""

import argparse
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile
import torch

from echo.data.mixing import resampler
from echo.data.prepare.filter.filter import filter_source
from echo.data.prepare.filter.rules import FilterSettings
from echo.data.sources import ReadOptions, read_source
from echo.data.utterance import Utterance
from echo.evaluate.hearing import Hearing
from echo.model.geometry import SAMPLE_RATE
from echo.support.files import new_folder
from echo.support.text import percent, table

CUT = 1 / 3  # of the words, or of the sound
CYRILLIC = dict(zip("abcdefghijklmnopqrstuvwxyz", "абцдефгхийклмнопкрстувшкыз", strict=True))


@dataclass
class Planted:
    """A row of the data set that is made."""

    samples: torch.Tensor
    text: str
    speaker: str | None
    fault: str = ""  # "" of a clean row


def cut_text(row: Planted, rng: random.Random) -> None:
    words = row.text.split()
    rest = round(len(words) * (1 - CUT))
    row.text = " ".join(words[:rest] if rng.random() < 0.5 else words[-rest:])


def cut_sound(row: Planted, rng: random.Random) -> None:
    rest = round(len(row.samples) * (1 - CUT))
    row.samples = row.samples[:rest] if rng.random() < 0.5 else row.samples[-rest:]


def repeat(row: Planted, rng: random.Random) -> None:
    row.text = f"{row.text} {row.text}"


def clip(row: Planted, rng: random.Random) -> None:
    row.samples = (4 * row.samples / row.samples.abs().max()).clamp(-1, 1)


def narrow(row: Planted, rng: random.Random) -> None:
    half = SAMPLE_RATE // 2
    row.samples = resampler(half, SAMPLE_RATE)(resampler(SAMPLE_RATE, half)(row.samples))


def silence(row: Planted, rng: random.Random) -> None:
    row.samples = torch.zeros_like(row.samples)


def transliterate(row: Planted, rng: random.Random) -> None:
    row.text = "".join(CYRILLIC.get(letter, letter) for letter in row.text)


def credit(row: Planted, rng: random.Random) -> None:
    row.text = "thanks for watching"


FAULTS: dict[str, Callable[[Planted, random.Random], None]] = {
    "text cut at an edge": cut_text,
    "sound cut at an edge": cut_sound,
    "text repeated": repeat,
    "clipped": clip,
    "8 kHz": narrow,
    "silent": silence,
    "other script": transliterate,
    "stock phrase": credit,
}
SWAPPED, DUPLICATED = "texts swapped", "duplicated"


def plant(rows: Sequence[Utterance], each: int, seed: int) -> list[Planted]:
    """Returns the rows, so many of which have each fault, and so many copies of clean ones at
    another level."""
    rng = random.Random(seed)
    planted = [Planted(row.audio.load(), row.text, row.speaker) for row in rows]
    if len(planted) < each * (len(FAULTS) + 3):
        raise SystemExit(f"{len(planted)} rows are too few for {each} faults of each kind")
    order = rng.sample(planted, len(planted))
    for name, fault in FAULTS.items():
        for row in [order.pop() for _ in range(each)]:
            fault(row, rng)
            row.fault = name
    swapped = [order.pop() for _ in range(each)]
    texts = [row.text for row in swapped]
    for row, text in zip(swapped, texts[1:] + texts[:1], strict=True):
        row.text, row.fault = text, SWAPPED
    copies = [Planted(0.5 * row.samples, row.text, row.speaker, DUPLICATED) for row in order[:each]]
    return planted + copies


def write(rows: list[Planted], folder: Path) -> str:
    """Writes the data set; returns its source."""
    folder.mkdir(parents=True)
    lines = []
    for number, row in enumerate(rows):
        name = f"{number:05d}.flac"
        soundfile.write(folder / name, row.samples.numpy(), SAMPLE_RATE)
        line = {"audio_filepath": name, "text": row.text, "speaker": row.speaker}
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    (folder / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    return str(folder / "rows.jsonl")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clean", help="a data set without faults")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--model", help="a model to judge the texts as well")
    parser.add_argument("--each", type=int, default=10, help="faults of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    new_folder(options.out)
    rows = plant(read_source(options.clean), options.each, options.seed)
    data = write(rows, options.out / "data")
    folder = options.out / "filtered"
    hear = None
    if options.model:
        hear = Hearing.of(options.model, "best", data, options.out / "heard.jsonl", progress=True)
    found = filter_source(
        data, ReadOptions(), FilterSettings(), folder, workers=2, hear=hear, progress=True
    )
    lines = []
    for kind in (*FAULTS, SWAPPED, DUPLICATED, ""):
        own = [i for i, row in enumerate(rows) if row.fault == kind]
        rejected = [i for i in own if i in found.reasons]
        rules = sorted({reason.rule for i in rejected for reason in found.reasons[i]})
        share = percent(len(rejected) / len(own))
        lines.append([kind or "none", str(len(own)), str(len(rejected)), share, ", ".join(rules)])
    text = table(["fault", "rows", "rejected", "share", "by"], lines)
    (options.out / "filter.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
