"""Error rates on utterances joined to several times their length, longer than any in training:

python scripts/measure/lengths.py --data espeak: runs/pilot/echo/seed-1 runs/pilot/whisper/seed-1

The CTC head alone is measured, and with --joint the decoder with it, as far as it takes the text.
Of a pilot's run, the last checkpoint is measured. Fixed positions reach as far as they must. With
--sharpen N the encoder's global attention becomes sharper with the logarithm of the length, from N
frames on (Nakanishi 2025, "Scalable-softmax is superior for attention").
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from echo.attention.global_branch import MultiHeadAttention
from echo.checkpoints.load import LoadedModel, load_model
from echo.config import DecodeSettings
from echo.data.audio import JoinedAudio
from echo.data.sources import read_source
from echo.data.utterance import Utterance
from echo.evaluate.evaluation import evaluate_model
from echo.evaluate.statistics import interval, resampled_rates
from echo.model.geometry import ENCODER_STRIDE, FRAMES_PER_SECOND
from echo.model.model import SinusoidPositions
from echo.support.text import table

DECODINGS = {
    "CTC alone": DecodeSettings(ctc_alone=True),
    "joint": DecodeSettings(),
}


def joined(utterances: Sequence[Utterance], times: int) -> list[Utterance]:
    """Returns one utterance for each `times` that follow one another; the rest is left out."""
    found = []
    for start in range(0, len(utterances) - times + 1, times):
        parts = utterances[start : start + times]
        found.append(
            Utterance(
                id="+".join(part.id for part in parts),
                audio=JoinedAudio(tuple(part.audio for part in parts), (0.0,) * times),
                text=" ".join(part.text for part in parts),
                duration=sum(part.duration for part in parts),
            )
        )
    return found


def lengthen(loaded: LoadedModel, seconds: float) -> None:
    """Makes a model's encoder take audio of so many seconds, with the same fixed positions."""
    config, encoder = loaded.model.config, loaded.model.model.encoder
    frames = round(seconds * FRAMES_PER_SECOND) // ENCODER_STRIDE + 1
    if frames > config.max_source_positions:
        encoder.embed_positions = SinusoidPositions(frames, config.d_model)
        config.max_source_positions = encoder.max_source_positions = frames


def sharpen(frames: int) -> None:
    """Multiplies the scores of every focused encoder layer's global branch by log(keys) /
    log(frames), but never makes them smaller."""
    attend = MultiHeadAttention.attend

    def sharper(self, query, key, value, mask, causal):
        if not causal:
            all_keys = torch.full((len(key), 1, 1, 1), key.shape[2])
            keys = all_keys if mask is None else (mask == 0).sum(-1, keepdim=True)
            query = query * (keys.log() / math.log(frames)).clamp(min=1)
        return attend(self, query, key, value, mask, causal)

    MultiHeadAttention.attend = sharper


def measure(
    loaded: LoadedModel, utterances: Sequence[Utterance], settings: DecodeSettings
) -> tuple[float, tuple[float, float]]:
    """Returns the WER, and its 95 % interval over utterances."""
    found = evaluate_model(loaded, utterances, settings, progress=True)
    errors = np.array([[counts.errors for counts in found.words]])
    words = np.array([counts.reference for counts in found.words])
    return found.wer.rate, interval(resampled_rates(errors, words, range(len(words)))[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", help="runs, models' folders or hub ids")
    parser.add_argument("--data", required=True, help="a manifest, or espeak: or fsdd:FOLDER")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--joint", action="store_true", help="measure decoder and CTC head too")
    parser.add_argument("--sharpen", type=int, help="frames from which attention is sharpened")
    parser.add_argument("--utterances", type=int, help="measure the first ones only")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.sharpen:
        sharpen(arguments.sharpen)
    utterances = read_source(arguments.data)[: arguments.utterances]
    sets = {times: joined(utterances, times) for times in arguments.times}
    rows, figures = [], []
    for source in arguments.models:
        loaded = load_model(source, "last")
        tokens = loaded.model.config.max_target_positions
        lengthen(loaded, max(u.duration for u in sets[max(sets)]))
        for name, settings in DECODINGS.items():
            if name == "joint" and not arguments.joint:
                continue
            settings = replace(settings, max_batch_seconds=60)
            row = [source, name]
            for times, joins in sets.items():
                longest = max(len(loaded.tokenizer(u.text).input_ids) for u in joins)
                if name == "joint" and longest > tokens:
                    row.append("-")
                    continue
                rate, (low, high) = measure(loaded, joins, settings)
                row.append(f"{100 * rate:.1f} ({100 * low:.1f} to {100 * high:.1f})")
                figures.append(
                    {
                        "model": source,
                        "decoding": name,
                        "settings": asdict(settings),
                        "times": times,
                        "wer": rate,
                        "interval": [low, high],
                    }
                )
            rows.append(row)
    heads = ["model", "decoding", *(f"{times} joined, WER %" for times in sets)]
    print(table(heads, rows, texts=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
