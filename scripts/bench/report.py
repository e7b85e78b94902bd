"""How large the page of a result is, what it costs to write, and how fast it opens.

Measures the page of a result's folder, whose `report.html` is written anew, and that of a
comparison of two models on 2,000 utterances without recordings, made up on the spot:

    python scripts/bench/report.py runs/pilot
    python scripts/bench/report.py --rounds 15

Writing is the CPU time of all threads, with everything imported. Opening is the time from the
navigation to the first frame after the page has loaded and its scripts have run, in headless
Chromium: the median of several rounds, each in a context of its own. The exit code is 1 where a
page is larger or slower than it should be; on a busy machine, opening is slower.

Needs `playwright`, of the dev extra, and Debian's `chromium` or another.
"""

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from playwright.sync_api import Browser, sync_playwright

from echo.data.audio import AudioArray
from echo.data.utterance import Utterance
from echo.evaluate.decoding import Transcripts
from echo.evaluate.differences import error_rates
from echo.evaluate.evaluation import score
from echo.evaluate.normaliser import Normaliser
from echo.report.write import write_report

UTTERANCES = 2_000
SPEAKERS = 40
WORDS = [f"{a}{b}{c}" for a in "bdfgklmn" for b in ("a", "ei", "o", "u") for c in "rst"]
ERROR_RATES = {"base": 0.1, "other": 0.05}
# After the load event, the time in ms until a frame has been drawn.
DRAWN = """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(
  () => done(performance.now()))))"""


class Limits(NamedTuple):
    """What a page may take at most."""

    megabytes: float
    writing: float  # seconds of CPU
    opening: float  # seconds


OF_A_RESULT = Limits(3, 3, 1)
OF_MANY = Limits(6, 3, 2)


def made_up(folder: Path) -> None:
    """Writes a comparison of two models on random texts of 8 to 30 words."""
    draw = random.Random(0)
    silence = AudioArray(np.zeros(1), 16_000, "silence")  # never played
    utterances = [
        Utterance(
            f"recording-{i:05}",
            silence,
            " ".join(draw.choices(WORDS, k=draw.randint(8, 30))),
            draw.uniform(2, 15),
            f"speaker-{i % SPEAKERS}",
        )
        for i in range(UTTERANCES)
    ]
    same = Normaliser("none", str)
    found = {}
    for name, rate in ERROR_RATES.items():
        texts = [misheard(utterance.text, rate, draw) for utterance in utterances]
        found[name] = score(Transcripts(utterances, texts, 1.0), same)
        found[name].write(folder / name)
    content = {
        "data": f"{UTTERANCES} random texts",
        "utterances": UTTERANCES,
        "decode": {"beams": 1},
        "normaliser": same.name,
        "models": [{"name": name, "source": name} for name in found],
        "groups": {},
        **error_rates(found),
    }
    (folder / "comparison.json").write_text(json.dumps(content), encoding="utf-8")


def misheard(text: str, rate: float, draw: random.Random) -> str:
    """A text with a share of its words replaced by others, left out or doubled."""
    return " ".join(
        draw.choice([draw.choice(WORDS), "", f"{word} {word}"]) if draw.random() < rate else word
        for word in text.split()
    )


def measure(
    name: str,
    folder: Path,
    limits: Limits,
    browser: Browser,
    rounds: int,
    utterances: Sequence[Utterance] | None = None,
) -> bool:
    """Prints a line of figures, and says whether all are within the limits."""
    start = time.process_time()
    page = write_report(folder, utterances)
    writing = time.process_time() - start
    opening = statistics.median(seconds_to_open(browser, page) for _ in range(rounds))
    figures = Limits(page.stat().st_size / 1e6, writing, opening)
    shown = [f"{value:6.2f} (at most {most})" for value, most in zip(figures, limits, strict=True)]
    print(f"{name}: {shown[0]} MB, {shown[1]} s of CPU to write, {shown[2]} s to open")
    return all(value < most for value, most in zip(figures, limits, strict=True))


def seconds_to_open(browser: Browser, path: Path) -> float:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        page = context.new_page()
        page.goto(path.resolve().as_uri(), wait_until="load")
        return page.evaluate(DRAWN) / 1000
    finally:
        context.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", help="of a pilot, comparison or run")
    parser.add_argument("--rounds", type=int, default=9, help="of opening each page (9)")
    arguments = parser.parse_args()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        made_up(Path(folder))
        name = f"{UTTERANCES:,} utterances"
        good = measure(name, Path(folder), OF_MANY, browser, arguments.rounds, [])
        if arguments.folder:
            name = str(arguments.folder)
            good &= measure(name, arguments.folder, OF_A_RESULT, browser, arguments.rounds)
        browser.close()
    sys.exit(not good)


if __name__ == "__main__":
    main()
