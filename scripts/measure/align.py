"""How well `echo-asr data align` finds the sentences of long recordings in faulty texts:

python scripts/measure/align.py ROWS.jsonl OTHERS.jsonl --model MODEL --out results/align [--timed]

Joins utterances to long recordings, with pauses of their own room noise between them, and writes
texts that lack a tenth of the sentences, have as many that nobody says (of OTHERS), and a twentieth
of whose words are others; with --timed as subtitles that are late and drift. Aligns them, and
writes a table of what was found, as Markdown.
"""

import argparse
import random
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import soundfile
import torch
import torch.nn.functional as F

from echo.checkpoints.load import load_model
from echo.data.sources import read_source
from echo.data.utterance import Utterance
from echo.data.voice import loudness
from echo.model.geometry import HOP_LENGTH, SAMPLE_RATE
from echo.support.text import percent, table
from echo.transcribe.align.align import Aligned, Alignment, AlignSettings, Row, aligner_of
from echo.transcribe.align.texts import Sentence

LACKING = INSERTED = 0.1  # of the sentences
CHANGED = 0.05  # of the words
PAUSES = (0.2, 2.0)  # seconds
QUIET = SAMPLE_RATE // 5  # samples of room noise that a pause is made of
SHIFT, DRIFT, JITTER = 12.0, 1.001, 0.3  # of times: seconds, a factor, and seconds
EDGE = 0.05  # seconds by which a cut may miss a pause
NEAR = 0.2  # seconds by which a start may be off
WRONG = 0.5  # seconds of other speech in a row, or of its own beside it, that make it wrong


@dataclass
class Join:
    """A recording, with when each utterance is said, and a text of it."""

    samples: torch.Tensor
    voices: list[tuple[float, float]]  # of each utterance, in seconds
    sentences: list[Sentence] = field(default_factory=list)
    origins: list[int | None] = field(default_factory=list)  # of each; None if nobody says it
    changed: list[bool] = field(default_factory=list)  # whether words of it are others


def room_noise(samples: torch.Tensor, length: int) -> torch.Tensor:
    """Returns the quietest fifth of a second of a recording, forwards and backwards in turn."""
    quiet = F.avg_pool1d(loudness(samples)[None], 15, 1)[0]
    first = int(quiet.argmin()) * HOP_LENGTH
    part = samples[first : first + QUIET]
    both = torch.cat([part, part.flip(0)])
    return both.repeat(-(-length // len(both)))[:length]


def voice_of(samples: torch.Tensor) -> tuple[float, float]:
    """Returns when the voice of an utterance begins and ends, in seconds: where its level is for
    most of a tenth of a second a third of the way up from its quietest to its loudest, in dB."""
    levels = loudness(samples)
    low, high = levels.quantile(torch.tensor([0.05, 0.95]))
    steady = F.avg_pool1d((levels > low + (high - low) / 3).float()[None], 10, 1)[0] > 0.5
    places = steady.nonzero()[:, 0].tolist()
    return places[0] / 100 + EDGE, places[-1] / 100 + 0.1


def spoken(rows: Sequence[Utterance], minutes: float, rng: random.Random) -> Join:
    """Joins as many of the rows as fill the minutes, without a text."""
    pieces: list[torch.Tensor] = []
    voices: list[tuple[float, float]] = []
    length = 0
    for row in rows:
        if length > 60 * minutes * SAMPLE_RATE:
            break
        samples = row.audio.load()
        first, last = voice_of(samples)
        voices.append((length / SAMPLE_RATE + first, length / SAMPLE_RATE + last))
        pause = room_noise(samples, round(SAMPLE_RATE * rng.uniform(*PAUSES)))
        pieces += [samples, pause]
        length += len(samples) + len(pause)
    return Join(torch.cat(pieces), voices)


def join(
    rows: Sequence[Utterance], minutes: float, others: list[str], timed: bool, rng: random.Random
) -> Join:
    """Joins as many of the rows as fill the minutes, with a faulty text."""
    made = spoken(rows, minutes, rng)
    voices = made.voices
    words = [word for text in others for word in text.split()]

    def write(text: str, origin: int | None, start: float, end: float) -> None:
        off = rng.uniform(-JITTER, JITTER)
        times = ((t + off) * DRIFT + SHIFT for t in (start, end)) if timed else (None, None)
        made.sentences.append(Sentence(text, None, *times))
        made.origins.append(origin)
        made.changed.append(origin is not None and text != rows[origin].text)

    count = len(voices)
    lacking, inserted = (
        rng.sample(range(count), round(share * count)) for share in (LACKING, INSERTED)
    )
    for i, (start, end) in enumerate(voices):
        if i in inserted:
            write(rng.choice(others), None, start - 2, start)
        if i not in lacking:
            text = [
                rng.choice(words) if rng.random() < CHANGED else w for w in rows[i].text.split()
            ]
            write(" ".join(text), i, start, end)
    return made


@dataclass
class Counts:
    """What was found, over all joins."""

    cuts: list[bool] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)  # seconds late
    kept: list[bool] = field(default_factory=list)  # of the right sentences
    kept_changed: list[bool] = field(default_factory=list)  # of those of which words are others
    wrong: list[bool] = field(default_factory=list)  # of the kept sentences
    listed: list[bool] = field(default_factory=list)  # of the speech without a text
    scores: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})

    def add(self, made: Join, found: Alignment) -> None:
        ends = [0.0, *(end for _, end in made.voices)]
        begins = [*(start for start, _ in made.voices), found.seconds]
        pauses = list(zip(ends, begins, strict=True))  # before each utterance, and after the last
        right = set()
        for each in found.kept:
            origin = made.origins[each.part.sentence]
            is_right = origin is not None and self.is_right(made, found, each, origin)
            self.wrong.append(not is_right)
            if origin is None:
                continue
            right |= {origin} if is_right else set()
            for at, (low, high) in (
                (each.before, pauses[origin]),
                (each.after, pauses[origin + 1]),
            ):
                self.cuts.append(low - EDGE <= at <= high + EDGE)
            self.starts.append(each.start - made.voices[origin][0])
        for origin, changed in zip(made.origins, made.changed, strict=True):
            if origin is not None:
                (self.kept_changed if changed else self.kept).append(origin in right)
        for each in [*found.kept, *found.rejected]:
            self.scores[made.origins[each.part.sentence] is not None].append(each.score)
        for i, (start, end) in enumerate(made.voices):
            if i not in made.origins:
                covered = sum(
                    max(0, min(end, s.end) - max(start, s.start)) for s in found.unlabelled
                )
                self.listed.append(covered > 0.8 * (end - start))

    def is_right(self, made: Join, found: Alignment, each: Aligned, origin: int) -> bool:
        """Whether a row of this sentence has its speech, and no other."""
        row = Row.of([each], found.sentences, found.space)
        start, end = made.voices[origin]
        off = max(0, row.start - start) + max(0, end - row.end)
        for i, (first, last) in enumerate(made.voices):
            if i != origin:
                off += max(0, min(row.end, last) - max(row.start, first))
        return off <= WRONG

    def to_text(self) -> str:
        starts = torch.tensor(self.starts)
        near = (starts.abs() <= NEAR).tolist()
        rows = [
            ["cuts in the pause", *share(self.cuts)],
            [f"starts within {NEAR} s", *share(near)],
            ["right sentences that are kept", *share(self.kept)],
            ["those with changed words that are kept", *share(self.kept_changed)],
            ["wrong ones among the kept", *share(self.wrong)],
            ["speech without a text that is listed", *share(self.listed)],
        ]
        right, wrong = (sorted(self.scores[key]) for key in (True, False))
        return (
            f"{table(['what', 'of', 'share'], rows)}\n\n"
            f"Starts are {starts.median():+.3f} s late in the median. The lowest scores of text "
            f"that is said: {shown(right[:5])}; the highest of other text: {shown(wrong[-5:])}"
        )


def shown(scores: list[float]) -> str:
    return ", ".join(f"{score:.2f}" for score in scores)


def share(found: list[bool]) -> list[str]:
    return [f"{sum(found)} of {len(found)}", percent(sum(found) / max(1, len(found)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", help="utterances, which are joined in their order")
    parser.add_argument("others", help="utterances whose texts nobody says")
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--joins", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--timed", action="store_true", help="give the text times")
    parser.add_argument("--shuffle", action="store_true", help="join utterances in any order")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    rng = random.Random(options.seed)
    rows = [*read_source(options.rows)]
    if options.shuffle:
        rng.shuffle(rows)
    others = [row.text for row in read_source(options.others)]
    aligner = aligner_of(load_model(options.model), options.model, AlignSettings())
    counts, seconds, work = Counts(), 0.0, 0.0
    for number in range(options.joins):
        made = join(rows, options.minutes, others, options.timed, rng)
        rows = rows[len(made.voices) :]
        path = options.out / f"{number}.flac"
        soundfile.write(path, made.samples.numpy(), SAMPLE_RATE)
        began = time.process_time()
        found = aligner.align(path, made.sentences)
        work += time.process_time() - began
        seconds += found.seconds
        counts.add(made, found)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    text = (
        f"{counts.to_text()}\n\n{seconds / 60:.1f} minutes, {seconds / work:.1f} times real time "
        f"by the processor's time; {peak:.2f} GiB at most"
    )
    (options.out / "align.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
