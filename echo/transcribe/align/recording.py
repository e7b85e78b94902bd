"""A long recording, of which a few minutes are in memory at a time."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F

from echo.data.audio import AudioFile, AudioSlice
from echo.data.voice import loudness, rising, voiced
from echo.model.geometry import FRAMES_PER_SECOND, SAMPLE_RATE

HELD = 150.0  # seconds in memory
SHORTEST = 0.7  # of the longest piece
PAUSE = 0.4  # seconds over which it must be quiet where it is cut
REACH = 0.6  # seconds by which times of words may be off
SLOPE = 20.0  # dB by which it must be quieter for each second that a cut is off
STEADY = 0.15  # seconds of which most must be loud where a voice begins or ends
NOISE, SPEECH = 0.2, 0.95  # quantiles of the level that these do not exceed
LOUD = 0.3  # of the way between them, in dB: where a voice is above the noise
MIDDLE_OF_WINDOW = 0.025  # seconds: loudness is measured in windows of 50 ms
UNKNOWN = 0.0  # dB, where nothing was heard yet: so loud that it is not cut there


class LongRecording:
    """A recording file, with its loudness and voice as far as it was read: (frames,), one every
    10 ms. `voiced` tells where there is a voice, as `echo.data.voice.voiced` does. Raises DataError
    where the file cannot be read."""

    def __init__(self, path: Path, voiced: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.audio = AudioFile(path)
        self.voiced = voiced
        self.seconds = self.audio.seconds()
        frames = round(self.seconds * FRAMES_PER_SECOND) + 1
        self.levels = torch.full((frames,), UNKNOWN)
        self.voice = torch.zeros(frames, dtype=torch.bool)
        self.first, self.held = 0, torch.zeros(0)

    def samples(self, start: float, end: float) -> torch.Tensor:
        """Returns (samples,) at 16 kHz from `start` to `end`, in seconds."""
        first, last = round(start * SAMPLE_RATE), round(min(end, self.seconds) * SAMPLE_RATE)
        if not self.first <= first <= last <= self.first + len(self.held):
            until = max(end, start + HELD)
            part = AudioSlice(self.audio, start, until if until < self.seconds else None)
            self.first, self.held = first, part.load()
        return self.held[first - self.first : last - self.first]

    def listen(self, start: float, end: float) -> torch.Tensor:
        """Does what `samples` does, and notes how loud it is."""
        first = frame(start)
        heard = self.samples(start, end + 2 * MIDDLE_OF_WINDOW)
        levels = loudness(heard)
        voice = rising(levels) if self.voiced is voiced else self.voiced(heard)
        count = len(self.levels[first : first + len(levels)])
        place = slice(first, first + count)
        self.levels[place], self.voice[place] = levels[:count], voice[:count]
        return self.samples(start, end)

    def pieces(self, longest: float) -> Iterator[tuple[float, float]]:
        """Yields the start and end of pieces of at most `longest` seconds, cut where it is quiet,
        and notes how loud they are."""
        start = 0.0
        while self.seconds - start > longest:
            self.listen(start, start + longest)
            end = self.cut(start, longest, SHORTEST)
            yield start, end
            start = end
        self.listen(start, self.seconds)
        yield start, self.seconds

    def cut(self, start: float, longest: float, shortest: float) -> float:
        """Returns where it is quiet after the share `shortest` of `longest` seconds from `start`,
        and before their end."""
        at = self.quietest(start + shortest * longest, start + longest - REACH)
        # Where `longest` is not much more than its reach, the quietest point may be at the start.
        return min(max(at, start + longest / 4), start + longest)

    def split(self, start: float, end: float, longest: float) -> list[tuple[float, float]]:
        """Cuts a stretch into parts of at most `longest` seconds."""
        cuts = [start]
        while end - cuts[-1] > longest:
            cuts.append(self.cut(cuts[-1], longest, 0.5))
        return list(zip(cuts, [*cuts[1:], end], strict=True))

    def quietest(self, start: float, end: float, reach: float = REACH) -> float:
        """Returns the quietest point between two times, or up to `reach` seconds around them if it
        is much quieter there, of what was listened to."""
        start, end = sorted(min(each, self.seconds) for each in (start, end))
        first = frame(start - reach - MIDDLE_OF_WINDOW)
        levels = self.levels[first : frame(end + reach - MIDDLE_OF_WINDOW) + 1]
        width = min(len(levels), frame(PAUSE))
        quiet = F.avg_pool1d(levels[None], width, 1)[0]
        times = (first + (width - 1) / 2 + torch.arange(len(quiet))) / FRAMES_PER_SECOND
        times += MIDDLE_OF_WINDOW
        off = (start - times).clamp(min=0) + (times - end).clamp(min=0)
        return float(times[(quiet + SLOPE * off).argmin()])

    def edges(self, start: float, end: float) -> tuple[float, float]:
        """Returns where the voice begins and ends between two times. It must be louder than for
        `voiced`, which also finds breaths, and the steps of somebody who moves in a pause."""
        first = frame(start)
        levels = self.levels[first : max(frame(end - 2 * MIDDLE_OF_WINDOW), first + 1)]
        low, high = levels.quantile(torch.tensor([NOISE, SPEECH]))
        is_loud = levels > low + LOUD * (high - low)
        width = min(len(is_loud), frame(STEADY))
        steady = (F.avg_pool1d(is_loud.float()[None], width, 1)[0] > 0.5).nonzero()[:, 0].tolist()
        if not steady:
            return start, end
        loud = is_loud[steady[0] : steady[-1] + width].nonzero()[:, 0].tolist()
        at = start + steady[0] / FRAMES_PER_SECOND + MIDDLE_OF_WINDOW
        return at + loud[0] / FRAMES_PER_SECOND, min(end, at + loud[-1] / FRAMES_PER_SECOND)

    def voiced_seconds(self, start: float, end: float) -> float:
        return int(self.voice[frame(start) : frame(end)].sum()) / FRAMES_PER_SECOND


def frame(seconds: float) -> int:
    return max(0, round(seconds * FRAMES_PER_SECOND))
