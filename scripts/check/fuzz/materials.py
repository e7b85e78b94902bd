"""Good inputs, small ones of every kind, from which the bad ones are made."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import processes
import soundfile
import torch
from datasets import Audio, Dataset, disable_progress_bars

from tests.small_whisper import SIZES, TOKENIZER, edit, save_whisper, small_whisper

TEXTS = ("the quick fox", "jumps over", "the lazy dog")
CONFIG = """\
seed: 1
model: {d_model: 16, encoder_layers: 2, decoder_layers: 1, heads: 2, max_seconds: 4, max_tokens: 32,
  attention: {encoder: [plain, {form: adaptive, max_span: 8}]}}
data: {train: data/data.jsonl, eval: data/data.jsonl, workers: 0, max_batch_seconds: 4}
train: {max_steps: 2, warmup_steps: 1, checkpoint_every: 1, eval_every: 2, eval_utterances: 1}
"""
PILOT = """\
model: {d_model: 16, encoder_layers: 2, decoder_layers: 1, heads: 2, max_seconds: 4, max_tokens: 32}
data: {train: data/data.jsonl, eval: data/data.jsonl, workers: 0, max_batch_seconds: 4}
models: {one: {}, two: {model: {attention: {encoder: [plain, {form: adaptive, max_span: 8}]}}}}
budget: {max_steps: 1}
seeds: [1]
"""


def make(folder: Path) -> Path:
    """Writes models, data, a run and results into a folder, by the commands themselves where they
    are what a command writes."""
    folder.mkdir(parents=True)
    disable_progress_bars()
    torch.manual_seed(0)
    save_whisper(small_whisper(), folder / "whisper")
    # Its weights are drawn at random, so it would write timestamps where none are asked for.
    timestamps = range(len(TOKENIZER), SIZES["vocab_size"])
    edit("generation_config.json", suppress_tokens=[3, 5, *timestamps])(folder / "whisper")
    (folder / "run.yaml").write_text(CONFIG)
    (folder / "pilot.yaml").write_text(PILOT)
    write_data(folder / "data")
    commands = (
        "train run.yaml --out run",
        "convert whisper echo",
        "evaluate whisper data/data.jsonl --out evaluation",
        "compare whisper echo --data data/data.jsonl --out comparison",
        "data shard data/data.jsonl shards --workers 0",
    )
    for command in commands:
        code = processes.run(lambda command=command: call(command), folder)
        if code:
            sys.exit(f"{command}: {(folder / 'stderr').read_text()}")
    return folder


def call(command: str) -> None:
    sys.argv = ["echo-asr", *command.split()]
    processes.echo.cli.entry.main()


def write_data(folder: Path) -> None:
    """The same three utterances in every form that a data set can have."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number, text in enumerate(TEXTS):
        seconds = 0.4 + 0.3 * number
        time = np.arange(round(seconds * 16_000)) / 16_000
        wave = 0.4 * np.sin(2 * np.pi * (300 + 200 * number) * time) * rng.uniform(0.5, 1)
        for kind in ("wav", "flac", "ogg", "mp3"):
            soundfile.write(folder / f"{number}.{kind}", wave, 16_000)
        duration = len(wave) / 16_000
        rows.append({"audio_filepath": f"{number}.wav", "text": text, "duration": duration})
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, mark in (("data.csv", ","), ("data.tsv", "\t")):
        lines = [mark.join(rows[0]), *(mark.join(map(str, row.values())) for row in rows)]
        (folder / name).write_text("\n".join(lines) + "\n")
    (folder / "folder").mkdir()
    shutil.copy(folder / "data.csv", folder / "folder/metadata.csv")
    for number in range(len(TEXTS)):
        shutil.copy(folder / f"{number}.wav", folder / "folder")
    table = (folder / "folder/metadata.csv").read_text()
    (folder / "folder/metadata.csv").write_text(table.replace("audio_filepath", "file_name"))
    paths = [folder / row["audio_filepath"] for row in rows]
    audio = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
    content = {"audio": audio, "text": list(TEXTS)}
    table = Dataset.from_dict(content).cast_column("audio", Audio(sampling_rate=16_000))
    table.save_to_disk(folder / "saved")
    table.to_parquet(folder / "data.parquet")
