"""Error rates on utterances joined to several times their length, longer than any in training:

    python scripts/measure/lengths.py --data espeak: runs/pilot_lengths/*/seed-*

Runs named `seed-N` in one folder are one model with several seeds; of a run, the last checkpoint is
measured. The CTC head alone is measured, and with --joint the decoder with it, as far as it takes
the text. Fixed positions reach as far as they must. With --sharpen N the encoder's global attention
becomes sharper with the logarithm of the length, from N frames on (Nakanishi 2025,
"Scalable-softmax is superior for attention").
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from seeds import by_model, estimates, percent

from echo.attention.global_branch import MultiHeadAttention
from echo.checkpoints.load import LoadedModel, load_model
from echo.config import DecodeSettings
from echo.data.audio import JoinedAudio
from echo.data.sources import read_source
from echo.data.utterance import Utterance
from echo.evaluate.evaluation import evaluate_model
from echo.evaluate.statistics import Estimate
from echo.evaluate.wer import ErrorCounts
from echo.model.geometry import ENCODER_STRIDE, FRAMES_PER_SECOND
from echo.model.model import SinusoidPositions
from echo.support.text import table


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

    MultiHeadAttention.attend = sharper  # type: ignore[method-assign]


def word_errors(
    run: str, joins: Sequence[Utterance], settings: DecodeSettings
) -> list[ErrorCounts]:
    """Returns each utterance's word errors, or nothing where the text is too long."""
    loaded = load_model(run, "last")
    lengthen(loaded, max(u.duration for u in joins))
    longest = max(len(loaded.tokenizer(u.text).input_ids) for u in joins)
    if not settings.ctc_alone and longest > loaded.model.config.max_target_positions:
        return []
    return evaluate_model(loaded, joins, settings, progress=True).words


def compared(
    models: Mapping[str, Sequence[str]], joins: Sequence[Utterance], settings: DecodeSettings
) -> dict[str, tuple[Estimate, Estimate]]:
    """Returns each model's WER, and how it differs from the first model's, with intervals over
    seeds and utterances. Models whose decoder takes no text as long are left out."""
    counted = {
        name: [word_errors(run, joins, settings) for run in runs] for name, runs in models.items()
    }
    return estimates({name: runs for name, runs in counted.items() if all(runs)})


def draw(rates: Mapping[int, Mapping[str, tuple[Estimate, Estimate]]], path: Path) -> None:
    """Draws each model's WER, with its interval, against the length."""
    figure = Figure((7, 3.4), layout="constrained")
    axes = figure.subplots()
    times = list(rates)
    for name in rates[times[0]]:
        found = [rates[n][name][0] for n in times]
        values = np.array([100 * each.value for each in found])
        ends = 100 * np.array([each.interval for each in found]).T
        axes.errorbar(times, values, np.abs(ends - values), marker="o", capsize=3, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(times, [str(n) for n in times])
    axes.set(
        xlabel="utterances joined to one", ylabel="WER of the CTC head alone, %", ylim=(0, None)
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", help="runs, models' folders or hub ids")
    parser.add_argument("--data", required=True, help="a manifest, or espeak: or fsdd:FOLDER")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--joint", action="store_true", help="measure decoder and CTC head too")
    parser.add_argument("--sharpen", type=int, help="frames from which attention is sharpened")
    parser.add_argument("--utterances", type=int, help="measure the first ones only")
    parser.add_argument("--picture", type=Path, help="draw CTC alone against the length: a PNG")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.sharpen:
        sharpen(arguments.sharpen)
    models = by_model(arguments.runs)
    utterances = read_source(arguments.data)[: arguments.utterances]
    if len(utterances) < 2 * max(arguments.times):  # there is no interval over a single one
        parser.error(f"--times {max(arguments.times)} needs twice as many utterances")
    sets = {times: joined(utterances, times) for times in arguments.times}
    for decoding in ("CTC alone", "joint") if arguments.joint else ("CTC alone",):
        settings = DecodeSettings(ctc_alone=decoding == "CTC alone", max_batch_seconds=60)
        found = {times: compared(models, joins, settings) for times, joins in sets.items()}
        for title, kind in ((f"{decoding}, WER %", 0), (f"worse than {next(iter(models))}", 1)):
            rows = [
                [
                    name,
                    *(
                        percent(each[name][kind]) if name in each else "-"
                        for each in found.values()
                    ),
                ]
                for name in models
            ]
            print(table([title, *(f"{times} joined" for times in sets)], rows, texts=1))
        if arguments.picture and settings.ctc_alone:
            draw(found, arguments.picture)


if __name__ == "__main__":
    main()
