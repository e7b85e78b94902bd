"""Whether `echo-asr evaluate` measures of a Whisper checkpoint what `transformers` measures of it.

The same utterances are transcribed by the command, with audio padded to 30 s, and without any of
Echo's code: soundfile, `transformers`' processor, `generate` and normaliser, and jiwer. The corpus
WERs must agree to 0.1 points, raw and normalised, or the exit code is 1. For information the
command also runs with batches only as long as their recordings and some silence.

    python scripts/check/whisper_wer.py ../shared/models/whisper-tiny.en \
        ../shared/data/librispeech/dev.jsonl ../shared/data/speechocean762/dev.jsonl
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import soundfile
import torch
from tqdm import tqdm
from transformers import WhisperForConditionalGeneration, WhisperProcessor
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

SAMPLE_RATE = 16_000
TOLERANCE = 0.1  # points of WER


Row = dict[str, Any]  # an utterance of a manifest, with the whole path of its recording


class Reference:
    """`transformers`' Whisper, and nothing else."""

    def __init__(self, folder: str, batch_size: int) -> None:
        self.processor = WhisperProcessor.from_pretrained(folder)
        model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        self.model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        self.batch_size = batch_size

    @torch.inference_mode()
    def transcribe(self, lines: list[Row]) -> list[str]:
        texts = [""] * len(lines)
        # Of like length, so that few rows of a batch wait for its last.
        order = sorted(range(len(lines)), key=lambda i: lines[i]["duration"])
        for start in tqdm(range(0, len(order), self.batch_size), desc="transformers", leave=False):
            rows = order[start : start + self.batch_size]
            features = self.processor(
                [read_audio(lines[i]["audio_filepath"]) for i in rows],
                sampling_rate=SAMPLE_RATE,
                return_tensors="pt",
            ).input_features
            assert features.shape[-1] == 3000
            ids = self.model.generate(features.to(self.model.device))
            found = self.processor.batch_decode(ids, skip_special_tokens=True)
            for i, text in zip(rows, found, strict=True):
                texts[i] = text.strip()
        return texts

    def wer(self, lines: list[Row], texts: list[str]) -> tuple[float, float]:
        """Per cent, raw and normalised."""
        references = [line["text"] for line in lines]
        # The tokenizer's own `normalize` fails where a checkpoint comes without spellings.
        spellings = self.processor.tokenizer.english_spelling_normalizer
        normalise = EnglishTextNormalizer(spellings or {})
        return (
            100 * jiwer.wer(references, texts),
            100 * jiwer.wer([normalise(r) for r in references], [normalise(t) for t in texts]),
        )


def read_audio(path: str) -> np.ndarray:
    samples, rate = soundfile.read(path, dtype="float32")
    if rate != SAMPLE_RATE or samples.ndim != 1:
        raise SystemExit(f"{path}: is not mono at {SAMPLE_RATE} Hz, which this check needs")
    return samples


def read_lines(manifest: Path, count: int | None) -> list[Row]:
    """A manifest's utterances, or so many of them, drawn with a fixed seed."""
    entries = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    if count is not None and count < len(entries):
        entries = random.Random(0).sample(entries, count)
    folder = manifest.parent.resolve()
    return [{**e, "audio_filepath": str(folder / e["audio_filepath"])} for e in entries]


def evaluate(model: str, lines: list[Row], *options: str) -> tuple[float, float, list[str]]:
    """What the command says of WER, in per cent, raw and normalised, and its transcripts."""
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder) / "data.jsonl", Path(folder) / "results"
        rows = "".join(json.dumps(line) + "\n" for line in lines)
        data.write_text(rows, encoding="utf-8")
        command = [sys.executable, "-m", "echo", "evaluate", model, str(data), "--out", str(out)]
        command.append("--allow-outside")  # the recordings are not beside this manifest
        subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
        summary = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
        written = (out / "utterances.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["hypothesis"] for line in written]
    return 100 * summary["wer"]["rate"], 100 * summary["wer_normalised"]["rate"], texts


def report(name: str, raw: float, normalised: float, texts: list[str], expected: list[str]) -> None:
    different = sum(a != b for a, b in zip(texts, expected, strict=True))
    print(
        f"{name:28} WER {raw:7.3f} %, normalised {normalised:7.3f} %; "
        f"{different} transcripts differ",
        flush=True,
    )


def check(arguments: argparse.Namespace, reference: Reference, manifest: Path) -> bool:
    """Prints the comparison on one set; returns whether the two agree."""
    lines = read_lines(manifest, arguments.utterances)
    print(f"{manifest}: {len(lines)} utterances", flush=True)
    expected = reference.transcribe(lines)
    wanted = reference.wer(lines, expected)
    report("transformers", *wanted, expected, expected)
    found = evaluate(arguments.model, lines, "--pad-to", "30")
    report("echo, padded to 30 s", *found, expected)
    for line, theirs, ours in zip(lines, expected, found[2], strict=True):
        if theirs != ours:
            print(
                f"  {line['audio_filepath']}:\n    transformers: {theirs}\n    echo:         {ours}"
            )
    for silence in arguments.added_silence:
        result = evaluate(arguments.model, lines, "--pad-to", "0", "--added-silence", str(silence))
        report(f"echo, {silence:g} s of silence", *result, expected)
    raw, normalised = (ours - theirs for ours, theirs in zip(found[:2], wanted, strict=True))
    agree = max(abs(raw), abs(normalised)) <= TOLERANCE
    print(
        f"difference {raw:+.3f} points, normalised {normalised:+.3f}: "
        f"{'within' if agree else 'MORE THAN'} {TOLERANCE}\n",
        flush=True,
    )
    return agree


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a Whisper checkpoint's folder, or a hub id")
    parser.add_argument("data", nargs="+", type=Path, help="manifests")
    parser.add_argument("--utterances", type=int, help="so many of each set; all unless told")
    parser.add_argument("--added-silence", type=float, nargs="*", default=[1.0])
    parser.add_argument("--batch-size", type=int, default=8, help="of transformers' batches")
    arguments = parser.parse_args()
    reference = Reference(arguments.model, arguments.batch_size)
    agreements = [check(arguments, reference, manifest) for manifest in arguments.data]
    sys.exit(0 if all(agreements) else 1)


if __name__ == "__main__":
    main()
