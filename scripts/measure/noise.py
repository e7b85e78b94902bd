"""What training with noise does to connected digits, in noise and without:

python scripts/measure/noise.py --digits PATH_TO/fsdd --speech SPEECH.jsonl --out results/noise

Trains the Echo of configs/pilot_digits.yaml with and without `data.augment.noise`, in turn, and
measures both on the test set, clean and in noise. The noises are made: coloured noise, and babble
of the speakers in SPEECH, of other colours and speakers for training than for the test. Started
again, it goes on.
"""

import argparse
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import soundfile
import torch

from echo.checkpoints.load import load_model
from echo.data.build import build_corpus
from echo.data.noise import AudioFolder
from echo.data.sources import read_source
from echo.data.utterance import Utterance
from echo.evaluate.evaluation import evaluate_model
from echo.evaluate.noise import measure_noise
from echo.model.geometry import SAMPLE_RATE
from echo.pilot.contenders import read_pilot
from echo.pilot.result import run_folder
from echo.pilot.run import run_pilot
from echo.support.yaml import read_yaml

SECONDS = 30  # of each noise
VOICES = 6  # in a babble
BABBLES = 8  # in each folder
COLOURS = {"train": (0.0, 1.0, 2.0), "test": (0.5, 1.5)}  # exponents: power falls by frequency^-e
SNRS = (20.0, 10.0, 5.0, 0.0)


def make_noises(speech: Sequence[Utterance], out: Path) -> None:
    """Writes the folders `train` and `test`, which share no colour and no speaker."""
    by_speaker: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in speech:
        by_speaker[str(utterance.speaker)].append(utterance)
    speakers = sorted(by_speaker)
    if len(speakers) < 2:
        raise SystemExit("--speech has one speaker; the two babbles need speakers of their own")
    for part, own in (("train", speakers[::2]), ("test", speakers[1::2])):
        rng = random.Random(part)
        (out / part).mkdir(parents=True, exist_ok=True)
        for exponent in COLOURS[part]:
            write(out / part / f"colour_{exponent:g}.flac", coloured(exponent, rng))
        for number in range(BABBLES):
            voices = [spoken(by_speaker[s], rng) for s in rng.choices(own, k=VOICES)]
            write(out / part / f"babble_{number}.flac", torch.stack(voices).sum(0))


def coloured(exponent: float, rng: random.Random) -> torch.Tensor:
    white = torch.randn(
        SECONDS * SAMPLE_RATE, generator=torch.Generator().manual_seed(rng.randrange(2**32))
    )
    spectrum = torch.fft.rfft(white)
    frequencies = torch.arange(len(spectrum)).clamp(min=SECONDS * 20)  # flat below 20 Hz
    return torch.fft.irfft(spectrum * frequencies ** (-exponent / 2), n=len(white))


def spoken(utterances: Sequence[Utterance], rng: random.Random) -> torch.Tensor:
    """One voice without a pause, at a power of 1."""
    pieces: list[torch.Tensor] = []
    while sum(map(len, pieces)) < SECONDS * SAMPLE_RATE:
        pieces.append(rng.choice(utterances).audio.load())
    voice = torch.cat(pieces)[: SECONDS * SAMPLE_RATE]
    return voice / voice.square().mean().sqrt()


def write(path: Path, samples: torch.Tensor) -> None:
    soundfile.write(path, (0.5 * samples / samples.abs().max()).numpy(), SAMPLE_RATE)


def train(arguments: argparse.Namespace, noises: Path) -> Any:
    """Trains both models with every seed, and returns the pilot."""
    content = dict(read_yaml("configs/pilot_digits.yaml"))
    echo = content.pop("models")["echo"]
    noise = {"folder": str(noises / "train"), "probability": 0.5, "snr": [0, 20]}
    content["models"] = {
        "noise": {**echo, "data": {"augment": {"noise": noise}}},
        "clean": echo,
    }
    changes = [
        f"data.root={arguments.digits}",
        f"train.max_steps={arguments.steps}",
        f"train.eval_every={arguments.steps}",
        f"train.checkpoint_every={arguments.steps}",
    ]
    pilot = read_pilot(content, "measure_noise", changes, arguments.seeds)
    run_pilot(pilot, arguments.out)
    return pilot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--digits", required=True, help="folder of the Free Spoken Digit Dataset")
    parser.add_argument("--speech", required=True, help="data set with speakers, for the babble")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=1000)
    arguments = parser.parse_args()
    noises = arguments.out / "noises"
    make_noises(read_source(arguments.speech), noises)
    pilot = train(arguments, noises)
    folder = AudioFolder.at(noises / "test", "noises")
    print(f"| model | seed | clean | {' | '.join(f'{snr:g} dB' for snr in SNRS)} | words/min |")
    print(f"| --- | ---: |{' ---: |' * (len(SNRS) + 2)}")
    for contender in pilot.contenders:
        rows = []
        for seed in arguments.seeds:
            config = contender.with_seed(seed)
            utterances: Any = build_corpus(config.data, seed).eval_utterances()
            loaded = load_model(str(run_folder(arguments.out, contender.name, seed)), "last")
            clean = evaluate_model(loaded, utterances, config.decode)
            noisy = measure_noise(loaded, utterances, folder, SNRS, config.decode)
            rates = [100 * e.wer.rate for e in (clean, *noisy.curve.values())]
            rows.append([*rates, noisy.words_per_minute])
            print(row(contender.name, str(seed), rows[-1]), flush=True)
        print(row(contender.name, "mean", [fmean(column) for column in zip(*rows, strict=True)]))


def row(name: str, seed: str, figures: Sequence[float]) -> str:
    return f"| {name} | {seed} | {' | '.join(f'{figure:.2f}' for figure in figures)} |"


if __name__ == "__main__":
    main()
