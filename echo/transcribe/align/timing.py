"""How the times of a text fit its recording, and the windows that they cut it into."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby

import numpy as np

from echo.transcribe.align.anchors import RUN, Item, Match, Place, Words
from echo.transcribe.align.emissions import ANYTHING
from echo.transcribe.align.recording import LongRecording
from echo.transcribe.align.texts import Sentence

NEAR = 1.0  # seconds by which a time may be off once shift and drift are known
FEWEST = 8  # places that must fit, and half of all
MOST_PAIRS = 200
RATES = (0.9, 1.1)  # of what is a drift
LONG_GAP = 3.0  # seconds between sentences that need not be in a window


@dataclass(frozen=True)
class Clock:
    """Where the times of a text are in its recording."""

    shift: float = 0.0  # seconds
    rate: float = 1.0

    def correct(self, sentence: Sentence) -> Sentence:
        start, end = (self.shift + self.rate * t for t in sentence.times())
        return replace(sentence, start=max(0.0, start), end=max(0.0, end))

    def __str__(self) -> str:
        return f"shift {self.shift:+.2f} s, drift {100 * (self.rate - 1):+.3f} %"


def same_places(
    text: Sequence[tuple[str, float]], heard: Sequence[tuple[str, float]]
) -> list[tuple[float, float]]:
    """Returns the times, in a text and in what was heard, of runs of words that the text has once.
    Both are words and their times."""
    runs = [tuple(word for word, _ in text[i : i + RUN]) for i in range(len(text) - RUN + 1)]
    number = Counter(runs)
    place = {run: text[i + RUN // 2][1] for i, run in enumerate(runs) if number[run] == 1}
    found = []
    for i in range(len(heard) - RUN + 1):
        run = tuple(word for word, _ in heard[i : i + RUN])
        if run in place:
            found.append((place[run], heard[i + RUN // 2][1]))
    return found


def fit_clock(places: Sequence[tuple[float, float]]) -> Clock | None:
    """Returns the shift and drift that fit most pairs of times, of the text and of the recording;
    None if no shift and drift fit half of them."""
    if len(places) < FEWEST:
        return None
    told, real = np.array(places[:: 1 + len(places) // MOST_PAIRS]).T
    spans = told[:, None] - told
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = np.where(abs(spans) > 60, (real[:, None] - real) / spans, 1.0).ravel()
    rates = np.append(rates[(rates >= RATES[0]) & (rates <= RATES[1])], 1.0)
    shifts = np.median(real - rates[:, None] * told, axis=1)
    off = abs(shifts[:, None] + rates[:, None] * told - real)
    near = off[(off <= NEAR).sum(1).argmax()] <= NEAR
    if near.sum() < max(FEWEST, len(told) / 2):
        return None
    if np.ptp(told[near]) < 60:  # too short to tell a drift
        return Clock(float(np.mean(real[near] - told[near])))
    rate, shift = np.polyfit(told[near], real[near], 1)
    return Clock(float(shift), float(rate))


@dataclass(frozen=True)
class Window:
    """A part of a recording, in seconds, and the sentences in it, from one to before another."""

    start: float
    end: float
    first: int
    last: int


def windows(
    recording: LongRecording, sentences: Sequence[Sentence], longest: float
) -> Iterator[Window]:
    """Yields windows of at most `longest` seconds, cut where it is quiet between sentences. What is
    in none of them is listened to as well."""
    start, first = 0.0, 0
    starts, ends = ([sentence.times()[side] for sentence in sentences] for side in (0, 1))
    ends = [*accumulate(ends, max)]  # sentences of several speakers overlap
    starts.append(np.inf)
    while first < len(sentences):
        begin = max(start, min(starts[first] - NEAR, recording.seconds))
        if begin >= recording.seconds - NEAR:  # the text goes on, but not the recording
            break
        skip(recording, start, begin, longest)
        limit = begin + longest
        last, widest = first, -np.inf
        for i in range(first, len(sentences)):
            if ends[i] + NEAR > limit:
                break
            gap = starts[i + 1] - ends[i]
            if gap >= widest or ends[i] < begin + longest / 2:
                last, widest = i, gap
            if gap > LONG_GAP:
                break
        recording.listen(begin, limit)
        end, following = ends[last], starts[last + 1]
        is_long = following - end > LONG_GAP
        start = end + NEAR if is_long else recording.quietest(end, max(end, following))
        start = min(max(start, begin + 0.1), limit, recording.seconds)
        if start > begin:
            yield Window(begin, start, first, last + 1)
        first = last + 1
    skip(recording, start, recording.seconds, longest)


def skip(recording: LongRecording, start: float, end: float, longest: float) -> None:
    """Listens to what is between two times."""
    while end - start > 0.1:
        recording.listen(start, min(start + longest, end))
        start += longest


class TimedText:
    """A text whose times fit its recording."""

    is_heard = False

    def __init__(self, sentences: Sequence[Words], found: Sequence[Window]) -> None:
        self.sentences, self.windows = sentences, found
        placed = {i for each in found for i in range(each.first, each.last)}
        self.missing = [i for i in range(len(sentences)) if i not in placed]

    def match(self, *_: int) -> Match | None:
        """Returns nothing: no one asked what is heard."""
        return None

    def items(self, wrong: Collection[Place] = ()) -> list[list[Item]]:
        """Returns the words of each window, with speech of no text around them and in the place of
        those that are wrong."""
        found = []
        for number, window in enumerate(self.windows):
            anything = Item(number, ANYTHING)
            own = [anything]
            for sentence in range(window.first, window.last):
                for word, text in enumerate(self.sentences[sentence].spelled):
                    place = sentence, word
                    own.append(anything if place in wrong else Item(number, text, place))
            found.append([item for item, _ in groupby([*own, anything])])
        return found
