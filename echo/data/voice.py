"""Finds the parts of a recording that can contain speech, and the best places to cut it.

Whisper's own test for silence asks the model. But on silence the model confidently hallucinates a
few words from the ends of subtitles, such as " you". So its text is kept only where the sound is
loud enough and rises above the recording's quietest parts. Speech rises with every syllable: by
5 dB even for a single word in noise of a quarter of its power. Hiss, rumble and hum rise by 3 dB
at most, whatever their level. Music and room noises also rise: for these only the model's test
helps.
"""

import torch
import torch.nn.functional as F

from echo.model.geometry import HOP_LENGTH, SAMPLE_RATE

WINDOW = SAMPLE_RATE // 20  # samples: 50 ms, less than a syllable
BAND = (300, 3400)  # Hz: the telephone band, which has speech but no hum
FAINTEST = -65.0  # dB re a full-scale sine: 16-bit noise is at -90, a distant whisper at -50
RISE = 4.0  # dB: how far speech must rise above the quietest tenth
QUIET_SECONDS = 0.3  # length of the pause to cut in


def loudness(samples: torch.Tensor) -> torch.Tensor:
    """Measures the power in the speech band in windows of 50 ms, one every 10 ms, of (samples,) at
    16 kHz: (frames,) in dB, 0 for a full-scale sine. Less than 50 ms is padded to 50 ms."""
    window = torch.hann_window(WINDOW)
    low, high = (round(hertz * WINDOW / SAMPLE_RATE) for hertz in BAND)
    frames = F.pad(samples, (0, max(0, WINDOW - len(samples)))).unfold(0, WINDOW, HOP_LENGTH)
    powers = [
        torch.fft.rfft(block * window)[:, low : high + 1].abs().square().sum(1)
        for block in frames.split(10_000)  # the spectra of hours would take gigabytes
    ]
    return 10 * (torch.cat(powers) * 4 / (WINDOW * window.square().sum())).clamp(min=1e-12).log10()


def voiced(samples: torch.Tensor) -> torch.Tensor:
    """Says which 50 ms windows of (samples,) at 16 kHz can contain speech: (frames,) of bool, one
    every 10 ms. If everything is faint or steady, no window can.
    """
    return rising(loudness(samples))


def rising(levels: torch.Tensor) -> torch.Tensor:
    """Does what `voiced` does, by the result of `loudness`."""
    return levels >= max(FAINTEST, quietest_tenth(levels) + RISE)


def quietest_tenth(levels: torch.Tensor) -> float:
    """Returns the level, in dB, that a tenth of the windows do not exceed."""
    return float(levels.kthvalue(-(-len(levels) // 10)).values)


def has_voice(samples: torch.Tensor) -> bool:
    """Says whether (samples,) at 16 kHz can contain speech."""
    return bool(voiced(samples).any())


def trim(start: float, end: float, voice: torch.Tensor) -> tuple[float, float]:
    """Trims the silence at both ends of a segment, in seconds, by the result of `voiced`."""
    first, last = round(start * SAMPLE_RATE / HOP_LENGTH), round(end * SAMPLE_RATE / HOP_LENGTH)
    places = voice[first:last].nonzero()
    if len(places) == 0:
        return start, end
    begin = (first + int(places[0])) * HOP_LENGTH / SAMPLE_RATE
    finish = ((first + int(places[-1])) * HOP_LENGTH + WINDOW) / SAMPLE_RATE
    return max(start, begin), min(end, finish)


def split_at_quiet(samples: torch.Tensor, longest: int) -> list[tuple[int, int]]:
    """Cuts a recording into pieces of at most `longest` samples, each from one sample to before
    another. Each piece ends at the quietest moment between `longest / 2` and `longest` samples."""
    cuts = [0]
    while len(samples) - cuts[-1] > longest:
        begin = cuts[-1] + longest // 2
        levels = loudness(samples[begin : cuts[-1] + longest])
        pause = min(len(levels), round(QUIET_SECONDS * SAMPLE_RATE / HOP_LENGTH))
        quietest = F.avg_pool1d(levels[None], pause, 1)[0].argmin()
        cuts.append(
            begin + (int(quietest) * HOP_LENGTH + (pause - 1) * HOP_LENGTH // 2 + WINDOW // 2)
        )
    return list(zip(cuts, [*cuts[1:], len(samples)], strict=True))
