"""A long recording, of which a few minutes are in memory at a time."""

from collections.abc import Iterator
from pathlib import Path

import torch

from echo.data.audio import AudioFile, AudioSlice
from echo.data.voice import loudness, rising, split_at_quiet
from echo.model.geometry import FRAMES_PER_SECOND, SAMPLE_RATE

HELD = 150.0  # seconds in memory
SILENT = -120.0  # dB, where nothing was heard yet


class LongRecording:
    """A recording file, with its loudness and voice as far as it was read: (frames,), one every
    10 ms. Raises DataError where it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.audio = AudioFile(path)
        self.seconds = self.audio.seconds()
        frames = round(self.seconds * FRAMES_PER_SECOND) + 1
        self.levels = torch.full((frames,), SILENT)
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
        heard = self.samples(start, end)
        levels = loudness(heard)[: len(self.levels) - frame(start)]
        place = slice(frame(start), frame(start) + len(levels))
        self.levels[place], self.voice[place] = levels, rising(levels)
        return heard

    def pieces(self, longest: float) -> Iterator[tuple[float, float]]:
        """Yields the start and end of pieces of at most `longest` seconds, cut where it is quiet,
        and notes how loud they are."""
        start = 0.0
        while start < self.seconds:
            stretch = self.samples(start, start + HELD)
            cuts = split_at_quiet(stretch, round(longest * SAMPLE_RATE))
            if start + HELD < self.seconds:
                cuts.pop()  # it ends where the stretch does, not where it is quiet
            for begin, end in cuts:
                place = start + begin / SAMPLE_RATE, start + end / SAMPLE_RATE
                self.listen(*place)
                yield place
            start += cuts[-1][1] / SAMPLE_RATE
            if start >= self.seconds - 1 / SAMPLE_RATE:
                return

    def voiced_seconds(self, start: float, end: float) -> float:
        return int(self.voice[frame(start) : frame(end)].sum()) / FRAMES_PER_SECOND


def frame(seconds: float) -> int:
    return max(0, round(seconds * FRAMES_PER_SECOND))
