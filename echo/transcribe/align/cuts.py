"""Where a recording is cut: in the pauses between sentences, at their quietest point."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from echo.model.geometry import FRAMES_PER_SECOND
from echo.transcribe.align.recording import LongRecording, frame

PAUSE = 0.4  # seconds over which it must be quiet
REACH = 0.15  # seconds by which times of words may be off
MARGIN = 0.5  # seconds of a pause that stay at the ends of a row
STEADY = 0.15  # seconds of which most must be loud where a voice begins or ends
NOISE, SPEECH = 0.2, 0.95  # quantiles of the level that these do not exceed
LOUD = 0.25  # of the way between them, in dB: where a voice is above the noise
MIDDLE_OF_WINDOW = 0.025  # seconds: loudness is measured in windows of 50 ms


def quietest(recording: LongRecording, start: float, end: float) -> float:
    """Returns the quietest point between two times, or around where they meet."""
    middle = (start + end) / 2
    start, end = min(start, middle - REACH), max(end, middle + REACH)
    first = frame(start - MIDDLE_OF_WINDOW)
    levels = recording.levels[first : max(frame(end - MIDDLE_OF_WINDOW), first + 1)]
    width = min(len(levels), frame(PAUSE))
    quiet = F.avg_pool1d(levels[None], width, 1)[0]
    at = first + int(quiet.argmin()) + (width - 1) / 2
    return min(max(at / FRAMES_PER_SECOND + MIDDLE_OF_WINDOW, start), end)


def voice_edges(recording: LongRecording, start: float, end: float) -> tuple[float, float]:
    """Returns where the voice begins and ends between two times. What rises above the noise is
    more than `voiced` finds speech in: breath, and steps of who moves in a pause."""
    levels = recording.levels[frame(start) : max(frame(end - 2 * MIDDLE_OF_WINDOW), frame(start) + 1)]
    low, high = levels.quantile(torch.tensor([NOISE, SPEECH]))
    is_loud = (levels > low + LOUD * (high - low)).float()
    width = min(len(is_loud), frame(STEADY))
    is_steady = F.avg_pool1d(is_loud[None], width, 1)[0] > 0.5
    if not is_steady.any():
        return start, end
    places = is_steady.nonzero()[:, 0]
    first = int(places[0]) + int(is_loud[places[0] :].argmax())
    last = int(places[-1]) + width - 1 - int(is_loud[: int(places[-1]) + width].flip(0).argmax())
    return (
        start + first / FRAMES_PER_SECOND + MIDDLE_OF_WINDOW,
        min(end, start + last / FRAMES_PER_SECOND + MIDDLE_OF_WINDOW),
    )


def split_long(times: Sequence[tuple[float, float]], longest: float) -> list[tuple[int, int]]:
    """Cuts words, by their start and end in seconds, at the longest pauses between them until no
    part takes longer; each part is from one word to before another."""
    if len(times) < 2 or times[-1][1] - times[0][0] <= longest:
        return [(0, len(times))]
    pauses = torch.tensor([b[0] - a[1] for a, b in zip(times, times[1:], strict=False)])
    # Of pauses that are as long, the one nearest to the middle.
    places = torch.arange(len(pauses))
    cut = 1 + int((pauses - 1e-3 * (places - len(pauses) / 2).abs()).argmax())
    rest = [(cut + a, cut + b) for a, b in split_long(times[cut:], longest)]
    return [*split_long(times[:cut], longest), *rest]


def split_at_quietest(
    recording: LongRecording, start: float, end: float, longest: float
) -> list[tuple[float, float]]:
    """Cuts a stretch into parts that are no longer than `longest` seconds."""
    cuts = [start]
    while end - cuts[-1] > longest:
        cuts.append(quietest(recording, cuts[-1] + longest / 2, cuts[-1] + longest - REACH))
    return list(zip(cuts, [*cuts[1:], end], strict=True))
