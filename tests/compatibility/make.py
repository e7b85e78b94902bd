"""Writes what a version of Echo leaves behind, for later versions to be tested with.

    python tests/compatibility/make.py tests/compatibility/VERSION.zip

Uses the command line and `transformers` alone, so that it runs with any version. The archive holds
three recordings and their manifest, a run that was ended after the second of its four steps, the
metrics that it would have had, and logits of its checkpoint.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import soundfile
import torch

TEXTS = ("one two", "two one", "one one two")
SETTINGS = """\
seed: 7
model:
  {d_model: 8, n_mels: 16, encoder_layers: 4, decoder_layers: 2, heads: 2, max_seconds: 2,
   max_tokens: 20, dropout: 0.1, cross_positions: true,
   attention: {encoder: [hybrid, scaled, {form: focus, refiner: true},
                         {form: adaptive, rotary_base: 100}],
               decoder: [plain, adaptive]}}
data: {train: recordings.jsonl, eval: recordings.jsonl, workers: 0, max_batch_seconds: 2}
loss: {ctc_weight: 0.3, alignment_weight: 0.3}
train: {max_steps: 4, warmup_steps: 2, log_every: 1, eval_every: 2, checkpoint_every: 2,
        ema_decay: 0.9}
"""


def write_recordings(folder: Path) -> None:
    """Chords of the words' own, 0.4 s each."""
    lines = []
    for number, text in enumerate(TEXTS):
        time = np.arange(6400) / 16000
        tones = [np.sin(2 * np.pi * (300 + 200 * (word == "two")) * time) for word in text.split()]
        soundfile.write(folder / f"{number}.flac", 0.3 * np.concatenate(tones), 16000)
        lines.append(json.dumps({"audio_filepath": f"{number}.flac", "text": text}) + "\n")
    (folder / "recordings.jsonl").write_text("".join(lines))


def features() -> torch.Tensor:
    """(1, 16, 100), the same everywhere."""
    return torch.sin(torch.arange(1600.0)).view(1, 16, 100)


def logits(checkpoint: Path) -> list[float]:
    """Those of a few tokens, by the checkpoint's own folder."""
    from transformers import AutoModelForSpeechSeq2Seq

    import echo  # noqa: F401, which makes the model known

    model = AutoModelForSpeechSeq2Seq.from_pretrained(checkpoint).eval()
    with torch.no_grad():
        output = model(features(), decoder_input_ids=torch.tensor([[1, 2, 3]]))
    return output.logits.flatten().tolist()


def main(archive: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_recordings(folder)
        (folder / "settings.yaml").write_text(SETTINGS)
        train = [sys.executable, "-m", "echo", "train", "settings.yaml", "--out", "run"]
        subprocess.run(train, cwd=folder, check=True)
        checkpoints = folder / "run" / "checkpoints"
        shutil.copy(folder / "run" / "metrics.jsonl", folder / "metrics.jsonl")
        shutil.rmtree(checkpoints / "step-000004")
        shutil.rmtree(folder / "run" / "tensorboard")
        expected = {"logits": logits(checkpoints / "step-000002")}
        (folder / "expected.json").write_text(json.dumps(expected))
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    file.write(path, path.relative_to(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
