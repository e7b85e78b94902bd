"""Acoustic fingerprints, by which recordings that sound alike are found in any format and at any
level: those of Haitsma and Kalker (2002), whose bits tell whether differences of energy between
neighbouring bands rise from one moment to the next."""

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import torch
from torchaudio.functional import melscale_fbanks

from echo.model.geometry import SAMPLE_RATE

WINDOW = 4096  # samples: so long that it matters little where a recording begins
HOP = 512
BANDS = 33  # whose differences make 32 bits
LOWEST, HIGHEST = 200.0, 3_400.0  # Hz: what a telephone lets through
# The share of bits in which the same sound may differ: after MP3, Vorbis, Opus or a telephone,
# clips of read speech differ in 0.15 at the most, and from other clips in 0.43 at the least.
MAX_ERRORS = 0.25
MIN_FRAMES = 8  # that must agree, of a quarter of a second: fewer may agree by chance
MIN_SHARED = 0.8  # of the shorter recording: what two begin with alike, as a jingle, is less
NEAREST = 20  # rows with the same frame, among which pairs are looked for


@cache
def bands() -> torch.Tensor:
    return melscale_fbanks(WINDOW // 2 + 1, LOWEST, HIGHEST, BANDS, SAMPLE_RATE, None, "slaney").T


def fingerprint(samples: torch.Tensor) -> np.ndarray:
    """Returns 32 bits for each 32 ms of (samples,) at 16 kHz; a silent moment is 0."""
    if len(samples) < WINDOW:
        samples = torch.nn.functional.pad(samples, (0, WINDOW - len(samples)))
    window = torch.hann_window(WINDOW)
    spectrum = torch.stft(samples, WINDOW, HOP, window=window, center=False, return_complex=True)
    energy = bands() @ spectrum.abs().square()
    across = energy[:-1] - energy[1:]
    rises = (across[:, 1:] > across[:, :-1]).T.numpy()
    return np.ascontiguousarray(np.packbits(rises, axis=1)).view(np.uint32)[:, 0]


def alike(prints: Sequence[np.ndarray], sides: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yields the rows of different sides that sound alike, but for their ends: pairs in order.

    Pairs with a frame in common are compared where that frame is."""
    rows = np.repeat(np.arange(len(prints)), [len(each) for each in prints])
    frames = np.concatenate([np.arange(len(each)) for each in prints])
    words = np.concatenate(prints)
    spoken = np.flatnonzero(words)
    rows, frames, words = rows[spoken], frames[spoken], words[spoken]
    # Of a row, the first of equal frames alone: a steady tone would hide all other rows.
    _, first = np.unique(words.astype(np.int64) << 32 | rows, return_index=True)
    rows, frames, words = rows[first], frames[first], words[first]
    side = np.asarray(sides)[rows]
    found: set[tuple[int, int]] = set()
    for lag in range(1, NEAREST):
        pairs = np.flatnonzero((words[lag:] == words[:-lag]) & (side[lag:] != side[:-lag]))
        for i, j in zip(pairs.tolist(), (pairs + lag).tolist(), strict=True):
            pair = int(rows[i]), int(rows[j])  # in order, as equal words are sorted by row
            if pair not in found and match(
                prints[pair[0]], prints[pair[1]], int(frames[i] - frames[j])
            ):
                found.add(pair)
    yield from sorted(found)


def match(one: np.ndarray, other: np.ndarray, shift: int) -> bool:
    """Tells whether two fingerprints are about the same where the second begins `shift` frames
    into the first."""
    shared_one, shared_other = one[max(0, shift) :], other[max(0, -shift) :]
    count = min(len(shared_one), len(shared_other))
    shorter = min(len(one), len(other))
    if count < max(MIN_FRAMES, MIN_SHARED * shorter):
        return False
    different = np.bitwise_count(shared_one[:count] ^ shared_other[:count]).sum()
    return bool(different <= MAX_ERRORS * 32 * count)
