"""Checkpoints: a model folder that `from_pretrained` reads, with all that training needs to go on.

A checkpoint is written under a temporary name, sealed with checksums, and renamed when it is on the
disk, so a folder named `step-N` is always complete; one that was damaged since is passed over.
"""

import json
import logging
import random
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from echo.checkpoints.card import CARD_FILE
from echo.checkpoints.checksums import damage, seal
from echo.data.batching import Position
from echo.data.features import FRAMES_PER_SECOND
from echo.support.errors import EchoError, reason
from echo.support.files import flush, whole_folder

logger = logging.getLogger(__name__)

TRAINER_FILE = "trainer.pt"
PROGRESS_FILE = "progress.json"
REPLACED = ".replaced"
RESUMABLE = 2  # newest checkpoints, of which one may be damaged


@dataclass
class Progress:
    """How far a run has got, and what it has cost."""

    step: int = 0
    position: Position = field(default_factory=Position)
    seconds: float = 0.0  # of training, without evaluation and checkpoints
    utterances: int = 0
    skipped: int = 0  # utterances that could not be used
    skipped_steps: int = 0  # for a loss that was not finite, or out of memory
    skipped_in_row: int = 0  # steps skipped since the last good one
    wer: float | None = None  # as last measured
    wer_step: int = 0  # at which it was measured
    best_wer: float | None = None
    stale: int = 0  # evaluations since best_wer

    def measured(self, wer: float) -> None:
        """Records the WER at this step."""
        self.wer, self.wer_step = wer, self.step
        better = self.best_wer is None or wer < self.best_wer
        self.best_wer = wer if better else self.best_wer
        self.stale = 0 if better else self.stale + 1


class CheckpointFolder:
    """The checkpoints of one run: the newest two, from which it can be resumed, and the models of
    the `keep_best` that had the best WERs."""

    def __init__(self, run: Path, keep_best: int = 1) -> None:
        self.folder = run / "checkpoints"
        self.keep_best = keep_best

    def newest(self) -> list[Path]:
        """All checkpoints, the newest first."""
        found = [path for path in self.folder.glob("step-*") if step_of(path) is not None]
        return sorted(found, key=lambda path: step_of(path) or 0, reverse=True)

    def measured(self) -> list[tuple[float, Path]]:
        """WER and checkpoint of those whose WER was measured, the best first; of equal ones the
        earlier."""
        found = []
        for path in reversed(self.newest()):
            progress = read_progress(path)
            if progress and progress.wer is not None and progress.wer_step == step_of(path):
                found.append((progress.wer, path))
        return sorted(found, key=lambda entry: entry[0])

    def is_among_best(self, wer: float) -> bool:
        """Whether a checkpoint of this WER would be kept."""
        kept = self.measured()[: self.keep_best]
        return len(kept) < self.keep_best or wer < kept[-1][0]

    def path(self, which: str) -> Path:
        """The folder of the `last` or `best` checkpoint whose model is as it was written.

        Raises:
            EchoError: the run has none yet, or none is whole.
        """
        found = self.newest() if which == "last" else [path for _, path in self.measured()]
        if not found:
            raise EchoError(f"{self.folder}: holds no {which} checkpoint yet")
        return self.first_whole(found, without=(TRAINER_FILE,))

    def first_whole(self, candidates: list[Path], without: tuple[str, ...] = ()) -> Path:
        """The first checkpoint that is as it was written; those before it are named.

        Raises:
            EchoError: there is none.
        """
        for path in candidates:
            problem = damage(path, without)
            if problem is None:
                return path
            logger.warning("%s: damaged, and passed over: %s", path, problem)
        raise EchoError(f"{self.folder}: no checkpoint is whole")

    def save(
        self,
        model: Any,
        tokenizer: Any,
        state: dict[str, Any],
        progress: Progress,
        card: str | None = None,
    ) -> Path:
        """Writes the checkpoint of this step, with its model card, and drops those that are no
        longer kept.

        Raises:
            EchoError: it cannot be written; those before it are as they were.
        """
        target = self.folder / f"step-{progress.step:06d}"
        with whole_folder(target) as folder:
            save_model(model, tokenizer, folder)
            torch.save(state, folder / TRAINER_FILE)
            (folder / PROGRESS_FILE).write_text(json.dumps(asdict(progress), indent=1))
            if card is not None:
                (folder / CARD_FILE).write_text(card, encoding="utf-8")
            seal(folder)
            if target.exists():  # of a run that was resumed here, or before
                target.rename(self.folder / f".{target.name}{REPLACED}")
        flush(self.folder)
        self.prune()
        return target

    def prune(self) -> None:
        """Drops checkpoints that are neither new nor good, and the training state of old ones."""
        resumable = self.newest()[:RESUMABLE]
        best = [path for _, path in self.measured()[: self.keep_best]]
        for path in self.newest():
            if path not in (*resumable, *best):
                # Renamed first, so that a half-deleted one is not taken for a checkpoint.
                path.rename(self.folder / f".{path.name}.deleted")
            elif path not in resumable:
                (path / TRAINER_FILE).unlink(missing_ok=True)
        for path in self.folder.glob(".step-*"):
            shutil.rmtree(path)

    def recover(self) -> None:
        """Puts back a checkpoint that was about to be replaced when the run was killed."""
        for path in self.folder.glob(f".step-*{REPLACED}"):
            target = self.folder / path.name[1:].removesuffix(REPLACED)
            if target.exists():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(FileNotFoundError):  # another process was faster
                    path.rename(target)

    def load(self) -> tuple[Path, dict[str, Any], Progress] | None:
        """The newest checkpoint that is whole: its folder, which holds the model, its training
        state and its progress; None where the run has no checkpoint yet.

        Raises:
            EchoError: all are damaged.
        """
        self.recover()
        candidates = self.newest()[:RESUMABLE]
        if not candidates:
            return None
        path = self.first_whole(candidates)
        file = path / TRAINER_FILE
        try:
            # weights_only: tensors and plain values; nothing is unpickled that could run code.
            state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # damaged files raise errors of many kinds
            raise EchoError(f"{file}: holds no training state ({reason(error)})") from error
        progress = read_progress(path)
        assert progress is not None
        return path, state, progress


def step_of(path: Path) -> int | None:
    number = path.name.removeprefix("step-")
    return int(number) if number.isdigit() else None


def read_progress(path: Path) -> Progress | None:
    """A checkpoint's, or None where it is missing or garbled."""
    try:
        content = json.loads((path / PROGRESS_FILE).read_text())
        return Progress(**{**content, "position": Position(**content["position"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Writes a folder that `from_pretrained` and `pipeline` read: weights, configs, tokenizer, and
    a feature extractor that fits the encoder."""
    from transformers import WhisperFeatureExtractor, WhisperProcessor

    model.save_pretrained(folder)
    seconds = 2 * model.config.max_source_positions // FRAMES_PER_SECOND
    extractor = WhisperFeatureExtractor(
        feature_size=model.config.num_mel_bins,
        chunk_length=max(1, seconds),  # in whole seconds only
    )
    WhisperProcessor(extractor, tokenizer).save_pretrained(folder)


def random_state() -> dict[str, Any]:
    """The state of every generator that this process may draw from in training."""
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
        state["cuda"] = torch.cuda.get_rng_state()
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
        torch.cuda.set_rng_state(state["cuda"])
