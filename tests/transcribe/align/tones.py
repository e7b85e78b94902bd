"""A language of tones, which a model of a few lines understands exactly."""

from types import SimpleNamespace

import numpy as np
import torch

from echo.data.voice import voiced
from echo.evaluate.normaliser import normaliser
from echo.model.geometry import SAMPLE_RATE
from echo.transcribe.align.align import Aligner, AlignSettings
from echo.transcribe.align.emissions import ANYTHING, Said
from echo.transcribe.transcript import Segment, Transcript

WORD, GAP, PAUSE = 0.2, 0.1, 0.6  # seconds
WORDS = [a + b for a in "bdfgklmnprst" for b in ("a", "e", "i", "o", "u")]
PITCHES = {word: 500 + 40 * i for i, word in enumerate(WORDS)}  # Hz


def sentence(number: int, length: int = 5) -> str:
    """A sentence that differs from those of other numbers in every word."""
    rng = np.random.default_rng(number)
    return " ".join(rng.choice(WORDS, length))


def speak(texts: list[str], pause: float = PAUSE) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Returns (samples,), and the start and end of each text in seconds; pauses are around them."""
    rng = np.random.default_rng(0)
    parts, times, length = [np.zeros(round(pause * SAMPLE_RATE))], [], pause
    for text in texts:
        start = length
        for word in text.split():
            t = np.arange(round(WORD * SAMPLE_RATE)) / SAMPLE_RATE
            parts += [
                0.3 * np.sin(2 * np.pi * PITCHES[word] * t),
                np.zeros(round(GAP * SAMPLE_RATE)),
            ]
            length += WORD + GAP
        times.append((start, length - GAP))
        parts.append(np.zeros(round((pause - GAP) * SAMPLE_RATE)))
        length += pause - GAP
    samples = np.concatenate(parts)
    return samples + 1e-4 * rng.standard_normal(len(samples)), times


def heard(samples: torch.Tensor) -> list[tuple[str, float, float]]:
    """Returns the words that are said, with their start and end in seconds."""
    found = []
    hop = SAMPLE_RATE // 100
    loud = (samples[: len(samples) // hop * hop].reshape(-1, hop).abs().amax(1) > 0.1).tolist()
    start = None
    for i, is_loud in enumerate([*loud, False]):
        if is_loud and start is None:
            start = i
        elif not is_loud and start is not None:
            part = samples[start * hop : i * hop]
            if i - start > 5:  # else it is cut
                peak = int(torch.fft.rfft(part, n=SAMPLE_RATE).abs().argmax())
                word = min(PITCHES, key=lambda word: abs(PITCHES[word] - peak))
                found.append((word, start / 100, i / 100))
            start = None
    return found


class Emissions:
    """Hears words exactly: those that are not said get a low probability."""

    least_score = -3.0

    def __init__(self) -> None:
        self.longest = 0

    def listen(self, samples):
        self.longest = max(self.longest, len(samples))
        said = heard(samples)

        def align(words):
            found, place = [], 0
            for word in words:
                later = next((i for i in range(place, len(said)) if said[i][0] == word), None)
                last = found[-1].end if found else 0.0
                if word == ANYTHING:
                    found.append(Said(last, last, 0.0, 0))
                elif later is None or later > place + 12:
                    found.append(Said(last, last, -10.0, 1))
                else:
                    found.append(Said(*said[later][1:], -0.1, 1))
                    place = later + 1
            return found

        return align


class Transcriber:
    limits = SimpleNamespace(max_frames=3000)
    settings = SimpleNamespace(batch_size=4)
    voiced = staticmethod(voiced)

    def __init__(self) -> None:
        self.seconds = 0.0

    def transcribe(self, recordings, progress):
        self.seconds += sum(len(samples) for samples in recordings) / SAMPLE_RATE
        texts = [" ".join(word for word, *_ in heard(samples)) for samples in recordings]
        return [Transcript(0.0, (Segment(0.0, 0.0, text),)) for text in texts]


def aligner(language="de", **settings) -> Aligner:
    tokenizer = SimpleNamespace(english_spelling_normalizer={})
    return Aligner(
        Emissions(), Transcriber(), normaliser(language, tokenizer), AlignSettings(**settings)
    )
