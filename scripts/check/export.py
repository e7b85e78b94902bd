"""Whether an exported model transcribes as the model it comes from, and how fast.

The model is exported to every target that holds it, and the same utterances are transcribed in turn
by all of them, one after the other, in one process with one thread each:

    python scripts/check/export.py ../shared/models/whisper-tiny.en \
        ../shared/data/librispeech/dev.jsonl --out results/export

WERs are normalised. The exit code is 1 if a target at full precision (float16 for ggml) is more
than 0.5 points from the model, or ONNX writes another transcript. Besides Echo's extra `onnx` this
needs ctranslate2, faster-whisper and pywhispercpp. Models that are in the folder already are used
again, and an interrupt (Ctrl-C) shows the figures of what was done.
"""

import argparse
import os

os.environ["OMP_NUM_THREADS"] = "1"

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch

sys.path.extend(str(Path(__file__).resolve().parents[1] / part) for part in (".", "bench"))
from transcribe_onnx import Transcriber
from turns import Turns

from echo.checkpoints.export.export import export
from echo.checkpoints.load import load_model
from echo.config import DecodeSettings
from echo.data.sources import ReadOptions, read_source
from echo.data.utterance import Utterance
from echo.evaluate.decoding import transcribe_set
from echo.evaluate.normaliser import normaliser
from echo.evaluate.wer import word_errors
from echo.model.language import spoken_language, written_language
from echo.support.errors import ConfigError
from echo.support.text import table

Transcribe = Callable[[np.ndarray], str]
EXPORTS = (
    ("ctranslate2", "float32"),
    ("ctranslate2", "int8"),
    ("ggml", "float16"),
    ("ggml", "int8"),
    ("onnx", "float32"),
    ("onnx", "int8"),
)
TOLERANCE = 0.5  # points of WER


def faster_whisper(folder: Path, precision: str, language: str | None) -> Transcribe:
    from faster_whisper import WhisperModel

    model = WhisperModel(str(folder), "cpu", compute_type=precision, cpu_threads=1)

    def transcribe(samples: np.ndarray) -> str:
        segments, _ = model.transcribe(
            samples, language=language, beam_size=1, temperature=0.0, without_timestamps=True
        )
        return "".join(segment.text for segment in segments)

    return transcribe


def whisper_cpp(folder: Path, precision: str, language: str | None) -> Transcribe:
    from pywhispercpp.model import Model

    model = Model(
        str(folder / "ggml-model.bin"),
        redirect_whispercpp_logs_to=None,
        n_threads=1,
        language=language or "auto",
        temperature_inc=0.0,
        no_timestamps=True,
        single_segment=True,
        print_progress=False,
    )
    return lambda samples: " ".join(segment.text for segment in model.transcribe(samples))


def onnx(folder: Path, precision: str, language: str | None) -> Transcribe:
    return Transcriber(folder, threads=1).transcribe


CLIENTS: dict[str, Callable[[Path, str, str | None], Transcribe]] = {
    "ctranslate2": faster_whisper,
    "ggml": whisper_cpp,
    "onnx": onnx,
}


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a run, or the folder or hub id of a model")
    parser.add_argument("data", help="a source of utterances of at most 30 s")
    parser.add_argument("--out", type=Path, required=True, help="folder for the exported models")
    parser.add_argument("--utterances", type=int, default=40, help="how many to transcribe; 40")
    parser.add_argument("--to", action="append", help="only this target; may be given again")
    asked = parser.parse_args()
    torch.set_num_threads(1)

    loaded = load_model(asked.model)
    language = spoken_language(loaded.model.generation_config)
    utterances = read_source(asked.data, ReadOptions(allow_outside=True))
    utterances = utterances[:: max(1, len(utterances) // asked.utterances)][: asked.utterances]
    normalise = normaliser(written_language(loaded.model), loaded.tokenizer)
    settings = DecodeSettings(ctc_weight=0.0)
    systems: dict[str, Transcribe] = {}
    sizes: dict[str, float] = {}
    for target, precision in EXPORTS:
        if asked.to and target not in asked.to:
            continue
        name, folder = f"{target} {precision}", asked.out / f"{target}-{precision}"
        try:
            if not folder.exists():
                export(asked.model, folder, target, precision)
            systems[name] = CLIENTS[target](folder, precision, language)
            sizes[name] = megabytes(folder)
        except ConfigError as error:
            print(f"{name}: {error}", flush=True)

    def by_echo(utterance: Utterance) -> str:
        return transcribe_set(loaded, [utterance], settings).texts[0]

    turns = Turns(clock=time.process_time)  # what others do on the machine does not count
    found: list[dict[str, str]] = []
    with suppress(KeyboardInterrupt):
        for utterance in utterances:
            samples, rate = soundfile.read(str(utterance.audio), dtype="float32")
            assert rate == 16000
            others = {name: partial(system, samples) for name, system in systems.items()}
            found.append(turns.take({"echo": partial(by_echo, utterance), **others}))
            print(f"{len(found)} of {len(utterances)}", file=sys.stderr, flush=True)

    utterances = utterances[: len(found)]
    said = [normalise(u.text) for u in utterances]
    audio = sum(u.duration for u in utterances)
    heard = {name: [normalise(texts[name]) for texts in found] for name in ("echo", *systems)}
    wers = {name: 100 * word_errors(said, texts).rate for name, texts in heard.items()}
    differing = {
        name: [(a, b) for a, b in zip(heard["echo"], texts, strict=True) if a != b]
        for name, texts in heard.items()
    }
    rows = [
        [
            name,
            f"{wers[name]:.2f}",
            str(len(differing[name])),
            f"{audio / sum(turns.seconds[name][: len(found)]):.1f}",
            f"{sizes[name]:.0f}" if name in sizes else "",
        ]
        for name in heard
    ]
    print(table(["system", "WER, normalised", "other texts", "RTFx", "MB"], rows))
    print(f"{len(utterances)} utterances, {audio:.0f} s; one thread, processor time")
    for name, pairs in differing.items():
        for ours, theirs in pairs:
            print(f"{name}:\n  {ours}\n  {theirs}")
    full = [name for name in systems if "int8" not in name]
    far = any(abs(wers[name] - wers["echo"]) > TOLERANCE for name in full)
    return int(far or heard.get("onnx float32", heard["echo"]) != heard["echo"])


if __name__ == "__main__":
    sys.exit(main())
