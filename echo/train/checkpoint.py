"""Checkpoints: a model folder that `from_pretrained` reads, with all that training needs to go on.

A checkpoint is written under a temporary name and renamed when it is whole, so a folder named
`step-N` is always complete. `checkpoints/index.json` says which is the last and which the best.
"""

import json
import random
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from echo.data.batching import Position
from echo.errors import EchoError

TRAINER_FILE = "trainer.pt"


@dataclass
class Progress:
    """How far a run has come, and what it has cost."""

    step: int = 0
    position: Position = field(default_factory=Position)
    seconds: float = 0.0  # of training, without evaluation and checkpoints
    utterances: int = 0
    skipped: int = 0
    best_wer: float | None = None
    stale: int = 0  # evaluations since


@dataclass(frozen=True)
class CheckpointIndex:
    last: str | None = None
    best: str | None = None


class CheckpointFolder:
    """The checkpoints of one run."""

    def __init__(self, run: Path) -> None:
        self.folder = run / "checkpoints"

    def index(self) -> CheckpointIndex:
        try:
            return CheckpointIndex(**json.loads((self.folder / "index.json").read_text()))
        except FileNotFoundError:
            return CheckpointIndex()

    def path(self, which: str) -> Path:
        """The folder of the `last` or `best` checkpoint.

        Raises:
            EchoError: the run has none yet.
        """
        name = getattr(self.index(), which)
        if name is None:
            raise EchoError(f"{self.folder}: holds no {which} checkpoint yet")
        return self.folder / name

    def save(
        self, model: Any, tokenizer: Any, state: dict[str, Any], progress: Progress, best: bool
    ) -> Path:
        """Writes the checkpoint of this step and drops those that are neither last nor best."""
        name = f"step-{progress.step:06d}"
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{name}.writing"
        shutil.rmtree(temporary, ignore_errors=True)
        save_model(model, tokenizer, temporary)
        torch.save({**state, "progress": asdict(progress)}, temporary / TRAINER_FILE)
        target = self.folder / name
        shutil.rmtree(target, ignore_errors=True)  # a run resumed from before this step
        temporary.rename(target)

        index = CheckpointIndex(name, name if best else self.index().best)
        replace_text(self.folder / "index.json", json.dumps(asdict(index)))
        for other in self.folder.glob("*step-*"):
            if other.name not in (index.last, index.best):
                shutil.rmtree(other)
        return target

    def load(self, which: str = "last") -> tuple[Path, dict[str, Any], Progress]:
        """The checkpoint's folder, which holds the model, its training state and progress."""
        path = self.path(which)
        # weights_only: tensors and plain values; nothing is unpickled that could run code.
        state = torch.load(path / TRAINER_FILE, map_location="cpu", weights_only=True)
        progress = state.pop("progress")
        return path, state, Progress(**{**progress, "position": Position(**progress["position"])})


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Writes a folder that `from_pretrained` and `pipeline` read: weights, configs, tokenizer and
    feature extractor."""
    from transformers import WhisperFeatureExtractor, WhisperProcessor

    model.save_pretrained(folder)
    extractor = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)
    WhisperProcessor(extractor, tokenizer).save_pretrained(folder)


def replace_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def random_state() -> dict[str, Any]:
    """The state of every generator that training may draw from."""
    version, internal, gauss = random.getstate()
    state: dict[str, Any] = {
        "python": [version, list(internal), gauss],
        "numpy": {
            k: v.tolist() if isinstance(v, np.ndarray) else v
            for k, v in np.random.get_state(legacy=False)["state"].items()
        },
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    legacy = np.random.get_state(legacy=False)
    legacy["state"] = {
        "key": np.array(state["numpy"]["key"], dtype=np.uint32),
        "pos": state["numpy"]["pos"],
    }
    np.random.set_state(legacy)
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
