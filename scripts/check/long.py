"""Whether a model does as well on long recordings as on the utterances that they are made of.

Utterances of one speaker are joined, with short pauses, to recordings of 45 s, and those of
successive speakers to one of 10 minutes. `transcribe` hears them in a batch, and `evaluate` the
same utterances one by one. The exit code is 1 where the WER of the long ones is more than a point
above, a recording's text goes round in a loop, or times run backwards. Case and punctuation do not
count; Whisper's normaliser of English would also join digits that end one utterance and begin the
next to one number.

    python scripts/check/long.py RUN --data ../shared/data/speechocean762/dev.jsonl
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import groupby, islice, pairwise
from pathlib import Path

import soundfile

from echo.checkpoints.load import load_model
from echo.data.audio import JoinedAudio
from echo.data.sources import read_source
from echo.data.utterance import Utterance
from echo.evaluate.evaluation import evaluate_model
from echo.evaluate.normaliser import normalise_basic
from echo.evaluate.wer import word_errors
from echo.model.geometry import SAMPLE_RATE
from echo.transcribe.transcribe import TranscribeSettings, transcribe_recordings
from echo.transcribe.transcript import Transcript

PAUSE = 0.3  # seconds before each utterance
TOLERANCE = 1.0  # points of WER
MOST_REPEATS = 4  # of up to `LONGEST_LOOP` words in a row, which nobody says
LONGEST_LOOP = 16  # words


def up_to(utterances: Sequence[Utterance], seconds: float) -> list[Utterance]:
    """The first utterances that together last so many seconds or a little more."""
    taken: list[Utterance] = []
    while len(taken) < len(utterances) and sum(u.duration + PAUSE for u in taken) < seconds:
        taken.append(utterances[len(taken)])
    return taken


def recordings(
    utterances: Sequence[Utterance], count: int, seconds: float, long_seconds: float
) -> Iterator[list[Utterance]]:
    """What each recording is joined from: `count` of one speaker each, then the long one."""
    speakers = [[*own] for _, own in groupby(utterances, key=lambda u: u.speaker)]
    many = [own for own in speakers if sum(u.duration + PAUSE for u in own) >= seconds]
    if len(many) < count:
        raise SystemExit(f"only {len(many)} speakers have {seconds:g} s")
    yield from (up_to(own, seconds) for own in islice(many, count))
    yield up_to([u for own in reversed(speakers) for u in own], long_seconds)


def loops(text: str) -> bool:
    """Whether some words follow themselves again and again."""
    words = text.split()
    for period in range(1, LONGEST_LOOP + 1):
        same = 0
        for first, second in zip(words, words[period:], strict=False):
            same = same + 1 if first == second else 0
            if same >= period * (MOST_REPEATS - 1):
                return True
    return False


def runs_backwards(transcript: Transcript) -> bool:
    """Whether a segment ends before it starts, or starts before the one before it ends."""
    segments = transcript.segments
    return any(s.end < s.start for s in segments) or any(
        second.start < first.end - 1e-6 for first, second in pairwise(segments)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a run's folder, a model's folder, or a hub id")
    parser.add_argument("--data", required=True, help="a data set with speakers")
    parser.add_argument("--checkpoint", default="best", choices=["best", "last"])
    parser.add_argument("--count", type=int, default=4, help="recordings of one speaker")
    parser.add_argument("--seconds", type=float, default=45.0, help="how long they are")
    parser.add_argument("--long-seconds", type=float, default=600.0, help="and the last one")
    arguments = parser.parse_args()

    loaded = load_model(arguments.model, arguments.checkpoint)
    utterances = read_source(arguments.data)
    joined = [*recordings(utterances, arguments.count, arguments.seconds, arguments.long_seconds)]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index}.wav" for index in range(len(joined))]
        for path, parts in zip(paths, joined, strict=True):
            audio = JoinedAudio(tuple(u.audio for u in parts), (PAUSE,) * len(parts))
            soundfile.write(path, audio.load().numpy(), SAMPLE_RATE)
        transcripts = transcribe_recordings(loaded, paths, TranscribeSettings())
    said = [normalise_basic(" ".join(u.text for u in parts)) for parts in joined]
    heard = [normalise_basic(transcript.text) for transcript in transcripts]
    # An utterance can be in the long recording and in a shorter one.
    alone = {id(u): u for parts in joined for u in parts}
    evaluation = evaluate_model(loaded, [*alone.values()])
    texts = {
        id(u): text
        for u, text in zip(evaluation.transcripts.utterances, evaluation.hypotheses, strict=True)
    }
    one_by_one = [normalise_basic(" ".join(texts[id(u)] for u in parts)) for parts in joined]
    failed = False
    print(f"{'recording':>24} {'long':>7} {'alone':>7}  loops  backwards  segments")
    sets = {
        f"{arguments.count} of {arguments.seconds:g} s": slice(0, -1),
        f"1 of {arguments.long_seconds:g} s": slice(-1, None),
    }
    for name, part in sets.items():
        long, short = (
            100 * word_errors(said[part], found[part]).rate for found in (heard, one_by_one)
        )
        looping = sum(map(loops, heard[part]))
        backwards = sum(map(runs_backwards, transcripts[part]))
        segments = sum(len(transcript.segments) for transcript in transcripts[part])
        print(f"{name:>24} {long:7.2f} {short:7.2f}  {looping:5}  {backwards:9}  {segments:8}")
        failed |= long > short + TOLERANCE or bool(looping or backwards)
    sys.exit(failed)


if __name__ == "__main__":
    main()
