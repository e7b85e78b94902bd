"""Where a recording can hold speech at all, and where it is best cut.

Whisper's own test for silence asks the model, which hallucinates a few words with confidence, such
as " you", from the ends of subtitles. So its text is kept only where there is something to hear:
sound that is loud enough and rises above the recording's quietest parts. Speech does with every
syllable, by 5 dB even for a single word in noise of a quarter of its power. Hiss, rumble and hum
rise by 3 dB at most, whatever their level. Music and noises of a room also rise: there only the
model's test is left.
"""

import torch
import torch.nn.functional as F

from echo.model.geometry import HOP_LENGTH, SAMPLE_RATE

WINDOW = SAMPLE_RATE // 20  # samples: 50 ms, less than a syllable
BAND = (300, 3400)  # Hz, of telephony: it holds speech but no hum
FAINTEST = -65.0  # dB re a full-scale sine: 16-bit noise is at -90, a distant whisper at -50
RISE = 4.0  # dB of the loudest moment over the quietest tenth
QUIET_SECONDS = 0.3  # the length of pause to cut in


def loudness(samples: torch.Tensor) -> torch.Tensor:
    """The power of speech's band in each 50 ms, one every 10 ms.

    Args:
        samples: (samples,) at 16 kHz; shorter ones are padded to 50 ms.

    Returns:
        (frames,) in dB, 0 for a full-scale sine.
    """
    window = torch.hann_window(WINDOW)
    low, high = (round(hertz * WINDOW / SAMPLE_RATE) for hertz in BAND)
    frames = F.pad(samples, (0, max(0, WINDOW - len(samples)))).unfold(0, WINDOW, HOP_LENGTH)
    powers = [
        torch.fft.rfft(block * window)[:, low : high + 1].abs().square().sum(1)
        for block in frames.split(10_000)  # the spectra of hours would take gigabytes
    ]
    return 10 * (torch.cat(powers) * 4 / (WINDOW * window.square().sum())).clamp(min=1e-12).log10()


def voiced(samples: torch.Tensor) -> torch.Tensor:
    """Which 50 ms of (samples,) at 16 kHz can hold speech: (frames,) of bool, one every 10 ms.

    None can where everything is faint or steady.
    """
    levels = loudness(samples)
    quiet = float(levels.kthvalue(-(-len(levels) // 10)).values)
    return levels >= max(FAINTEST, quiet + RISE)


def has_voice(samples: torch.Tensor) -> bool:
    """Whether (samples,) at 16 kHz can hold speech."""
    return bool(voiced(samples).any())


def trim(start: float, end: float, voice: torch.Tensor) -> tuple[float, float]:
    """Shortens a segment, in seconds, by the silence at its ends, as found by `voiced`."""
    first, last = round(start * SAMPLE_RATE / HOP_LENGTH), round(end * SAMPLE_RATE / HOP_LENGTH)
    places = voice[first:last].nonzero()
    if len(places) == 0:
        return start, end
    begin = (first + int(places[0])) * HOP_LENGTH / SAMPLE_RATE
    finish = ((first + int(places[-1])) * HOP_LENGTH + WINDOW) / SAMPLE_RATE
    return max(start, begin), min(end, finish)


def split_at_quiet(samples: torch.Tensor, longest: int) -> list[tuple[int, int]]:
    """Cuts a recording into pieces of at most `longest` samples, each at the quietest moment in
    the second half of its longest possible extent.

    Returns:
        The first sample of each piece, and the one after its last.
    """
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
