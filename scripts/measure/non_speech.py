"""Measures what is written where nobody speaks, and what is lost of quiet speech, by each way to
tell speech from other sounds.

    python scripts/measure/non_speech.py openai/whisper-tiny.en --data dev.jsonl --out results/vad

Sounds are made: noise, music (a tone, chords, a melody, beats), hum, breath and silence. Speech is
made quieter, and digitised again. Every window is decoded once, and judged in each way.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from echo.checkpoints.load import LoadedModel, load_model
from echo.data.loading import sample
from echo.data.sources import read_source
from echo.data.vad import find_voice
from echo.evaluate.normaliser import normaliser
from echo.evaluate.wer import word_errors
from echo.model.geometry import SAMPLE_RATE
from echo.support.files import new_folder
from echo.support.text import percent, table
from echo.transcribe.transcribe import Transcriber, TranscribeSettings
from echo.transcribe.transcript import Transcript

SECONDS = 10
QUIETER = (0, -20, -30, -40)  # dB
TOGETHER = 8  # recordings
EACH = 10  # sounds of each kind that are judged without a model
Sound = Callable[[torch.Generator], torch.Tensor]


def time() -> torch.Tensor:
    return torch.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE


def noise(draw: torch.Generator, slope: float = 0.0) -> torch.Tensor:
    """White noise of power 1; with a slope of 1, pink noise, and of 2, brown."""
    spectrum = torch.fft.rfft(torch.randn(SECONDS * SAMPLE_RATE, generator=draw))
    shaped = spectrum / torch.arange(1, len(spectrum) + 1) ** (slope / 2)
    samples = torch.fft.irfft(shaped)
    return samples / samples.square().mean().sqrt()


def uniform(draw: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(1, generator=draw))


def coloured(draw: torch.Generator) -> torch.Tensor:
    level = 10 ** uniform(draw, -2.5, -0.7)
    return level * noise(draw, slope=int(torch.randint(3, (1,), generator=draw)))


def tones(draw: torch.Generator) -> torch.Tensor:
    return 0.2 * torch.sin(2 * math.pi * uniform(draw, 200, 1000) * time())


def notes(draw: torch.Generator, together: int, seconds: float) -> torch.Tensor:
    """Notes of three harmonics that fade."""
    moment = torch.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    fading = torch.exp(-2 * moment / seconds)
    found = []
    for _ in range(round(SECONDS / seconds)):
        steps = torch.randint(24, (together,), generator=draw)
        pitches = 220 * 2 ** (steps / 12)
        waves = (torch.sin(2 * math.pi * h * p * moment) / h for h in (1, 2, 3) for p in pitches)
        found.append(fading * sum(waves))
    return 0.15 / together * torch.cat(found)


def beats(draw: torch.Generator) -> torch.Tensor:
    """A drum each half of a second, and a cymbal between."""
    moment = torch.arange(SAMPLE_RATE // 4) / SAMPLE_RATE
    drum = torch.sin(2 * math.pi * uniform(draw, 50, 90) * moment) * torch.exp(-12 * moment)
    hiss = torch.randn(len(moment), generator=draw) * torch.exp(-40 * moment)
    return torch.cat([0.5 * drum, 0.1 * hiss] * (2 * SECONDS))


def music(draw: torch.Generator) -> torch.Tensor:
    return notes(draw, 3, 1.0) + beats(draw)


def hum(draw: torch.Generator) -> torch.Tensor:
    base = 50 if uniform(draw, 0, 1) < 0.5 else 60
    waves = (torch.sin(2 * math.pi * h * base * time()) / h for h in (1, 2, 3, 5, 7))
    return 0.1 * sum(waves) + 0.001 * noise(draw)


def breath(draw: torch.Generator) -> torch.Tensor:
    """Noise in the band of a breath that comes and goes."""
    spectrum = torch.fft.rfft(noise(draw))
    hertz = torch.fft.rfftfreq(SECONDS * SAMPLE_RATE, 1 / SAMPLE_RATE)
    band = torch.exp(-((hertz.clamp(min=1) / uniform(draw, 600, 1200)).log().square()))
    rate = uniform(draw, 0.2, 0.4)
    swell = torch.sin(2 * math.pi * rate * time()).clamp(min=0).square()
    return 0.03 * swell * torch.fft.irfft(spectrum * band) + 0.0003 * noise(draw)


def silence(draw: torch.Generator) -> torch.Tensor:
    return uniform(draw, 0, 3e-4) * noise(draw)


SOUNDS: dict[str, Sequence[Sound]] = {
    "noise": (coloured,) * 4,
    "music": (
        tones,
        lambda draw: notes(draw, 1, 0.5),
        lambda draw: notes(draw, 3, 1.0),
        beats,
        music,
    ),
    "hum": (hum,) * 4,
    "breath": (breath,) * 4,
    "silence": (silence,) * 4,
}


def everything(samples: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(find_voice("energy")(samples))


WAYS = {"none": everything, "energy": find_voice("energy"), "silero": find_voice("silero")}


class EveryWay(Transcriber):
    """Judges what a model hears in each way; `found` has the transcripts by way."""

    def __init__(self, loaded: LoadedModel) -> None:
        super().__init__(loaded, TranscribeSettings())
        self.found: dict[str, list[Transcript]] = {way: [] for way in WAYS}
        self.voiced = everything

    def transcript(self, samples: torch.Tensor, found: Sequence[dict[str, Any]]) -> Transcript:
        for name, voiced in WAYS.items():
            self.voiced = voiced
            heard = found if voiced(samples).any() else ()
            self.found[name].append(super().transcript(samples, heard))
        self.voiced = everything
        return self.found["none"][-1]

    def texts(self, recordings: Sequence[torch.Tensor]) -> dict[str, list[str]]:
        self.found = {way: [] for way in WAYS}
        for first in range(0, len(recordings), TOGETHER):
            self.transcribe(recordings[first : first + TOGETHER], lambda seconds: None)
        return {way: [each.text for each in found] for way, found in self.found.items()}


def taken_for_speech(recordings: Sequence[torch.Tensor]) -> list[str]:
    """Returns how many recordings each way takes for speech, before a model hears them."""
    found = [str(sum(bool(way(x).any()) for x in recordings)) for way in WAYS.values()]
    return [f"{each} of {len(recordings)}" for each in found]


def judged(rows: Sequence[torch.Tensor], seed: int) -> Iterator[list[str]]:
    """Yields for each kind of sound, and each level of speech, how many are taken for speech."""
    for kind, made in SOUNDS.items():
        draws = [torch.Generator().manual_seed(seed + i) for i in range(EACH * len(made))]
        sounds = [made[i % len(made)](draw) for i, draw in enumerate(draws)]
        yield [f"{kind} taken for speech", *taken_for_speech(sounds)]
    for level in QUIETER:
        yield [f"speech found, {level} dB", *taken_for_speech(quieter(rows, level))]


def quieter(recordings: Sequence[torch.Tensor], level: float) -> list[torch.Tensor]:
    """Returns recordings made quieter by so many dB, and digitised again in 16 bits."""
    return [(x * 10 ** (level / 20) * 2**15).round() / 2**15 for x in recordings]


def non_speech(model: EveryWay, seed: int) -> Iterator[list[str]]:
    """Yields for each kind of sound how many words are written in each way."""
    for kind, made in SOUNDS.items():
        draws = [torch.Generator().manual_seed(seed + i) for i in range(len(made))]
        heard = model.texts([make(draw) for make, draw in zip(made, draws, strict=True)])
        words = [str(sum(len(text.split()) for text in texts)) for texts in heard.values()]
        yield [f"words in {len(made)} x {SECONDS} s of {kind}", *words]


def quiet_speech(
    model: EveryWay, recordings: Sequence[torch.Tensor], said: Sequence[str]
) -> Iterator[list[str]]:
    """Yields for each level the WER in each way."""
    normalise = normaliser("en", model.tokenizer)
    for level in QUIETER:
        heard = model.texts(quieter(recordings, level))
        references = [*map(normalise, said)]
        rates = [
            percent(word_errors(references, [*map(normalise, texts)]).rate)
            for texts in heard.values()
        ]
        yield [f"WER of speech, {level} dB", *rates]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", required=True, help="a data set of speech")
    parser.add_argument("--rows", type=int, default=40, help="of the data set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    options = parser.parse_args()
    new_folder(options.out)
    model = EveryWay(load_model(options.model))
    rows = sample(read_source(options.data), options.rows, options.seed)
    recordings = [row.audio.load() for row in rows]
    lines = [*judged(recordings, options.seed), *non_speech(model, options.seed)]
    lines += quiet_speech(model, recordings, [row.text for row in rows])
    text = table(["", *WAYS], lines)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "non_speech.md").write_text(text + "\n", encoding="utf-8")
    (options.out / "non_speech.json").write_text(json.dumps(lines, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
