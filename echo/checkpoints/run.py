"""Checkpoints of a run: model folders that `from_pretrained` reads, with the state of training.

A checkpoint is written under a temporary name, sealed with checksums, and renamed once it is on the
disk. So a folder named `step-N` is always complete; one that was damaged later is passed over.
"""

import json
import logging
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from echo.checkpoints.card import CARD_FILE
from echo.checkpoints.checksums import damage, seal
from echo.data.batching import Position
from echo.model.geometry import ENCODER_STRIDE, FRAMES_PER_SECOND
from echo.support.errors import EchoError, reason
from echo.support.files import flush, read_object, replace_text, whole_folder

logger = logging.getLogger(__name__)

Which = Literal["best", "last"]  # of a run's checkpoints

TRAINER_FILE = "trainer.pt"
PROGRESS_FILE = "progress.json"
ADAPTER_FOLDER = "adapter"
STEP = re.compile(r"step-([0-9]{1,18})")
REPLACED = ".replaced"
RESUMABLE = 2  # checkpoints, in case the last one is damaged


@dataclass
class Progress:
    """How far a run has come, and how long it took."""

    step: int = 0
    position: Position = field(default_factory=Position)
    seconds: float = 0.0  # of training, without evaluations and checkpoints
    utterances: int = 0  # trained on, each as often as it was
    skipped: int = 0  # utterances that could not be read
    skipped_steps: int = 0  # steps that left the weights as they were
    skipped_in_row: int = 0  # such steps since the last good one
    wer: float | None = None  # the last one measured
    wer_step: int = 0  # the step at which it was measured
    best_wer: float | None = None
    stale: int = 0  # evaluations since the best

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Progress":
        """The progress that `dataclasses.asdict` made `content` of."""
        return cls(**{**content, "position": Position(**content["position"])})

    def measured(self, wer: float) -> None:
        """Notes the WER at this step."""
        self.wer, self.wer_step = wer, self.step
        better = self.best_wer is None or wer < self.best_wer
        self.best_wer = wer if better else self.best_wer
        self.stale = 0 if better else self.stale + 1


class CheckpointFolder:
    """The checkpoints of one run: the newest two, from which it can be resumed, and the `keep_best`
    with the best WERs, of which only the model is kept."""

    def __init__(self, run: Path, keep_best: int = 1) -> None:
        self.folder = run / "checkpoints"
        self.keep_best = keep_best

    def newest(self) -> list[Path]:
        """All checkpoints, the newest first."""
        found = [path for path in self.folder.glob("step-*") if step_of(path) is not None]
        return sorted(found, key=lambda path: step_of(path) or 0, reverse=True)

    def measured(self) -> list[tuple[float, Path]]:
        """WER and folder of all checkpoints whose WER was measured: the best first, and of equal
        ones the earlier."""
        found = []
        for path in reversed(self.newest()):
            progress = read_progress(path)
            if progress and progress.wer is not None and progress.wer_step == step_of(path):
                found.append((progress.wer, path))
        return sorted(found, key=lambda entry: entry[0])

    def last_good(self) -> Path | None:
        """The newest checkpoint that was not written between skipped steps; None without one."""
        found = ((path, read_progress(path)) for path in self.newest())
        return next((path for path, at in found if at and not at.skipped_in_row), None)

    def is_among_best(self, wer: float) -> bool:
        """Whether a checkpoint with this WER would be kept."""
        kept = self.measured()[: self.keep_best]
        return len(kept) < self.keep_best or any(wer < worst for worst, _ in kept[-1:])

    def path(self, which: str) -> Path:
        """Returns the folder of the `last` or `best` checkpoint whose model is undamaged. Raises
        EchoError where there is none."""
        found = self.newest() if which == "last" else [path for _, path in self.measured()]
        if not found:
            raise EchoError(f"{self.folder}: holds no {which} checkpoint yet")
        return self.first_whole(found, without=(TRAINER_FILE,))

    def first_whole(self, candidates: list[Path], without: tuple[str, ...] = ()) -> Path:
        """Returns the first undamaged checkpoint, with a warning for each damaged one before it.
        Raises EchoError where all are damaged."""
        for path in candidates:
            problem = damage(path, without)
            if problem is None:
                return path
            logger.warning("%s: damaged, and passed over: %s", path, problem)
        raise EchoError(f"{self.folder}: every checkpoint is damaged")

    def save(
        self,
        model: Any,
        tokenizer: Any,
        state: dict[str, Any],
        card: str | None = None,
        save_adapter: Callable[[Path], None] | None = None,
    ) -> Path:
        """Writes the checkpoint of one step, and deletes those that are no longer kept.

        Args:
            state: of training, see `echo.train.state.TrainState.state_dict`. Its `progress` becomes
                progress.json, the rest trainer.pt.
            card: the model card.
            save_adapter: writes the adapter that the model was merged with to a folder.

        Raises:
            EchoError: it cannot be written; the earlier ones are as they were.
        """
        progress = state["progress"]
        target = self.folder / f"step-{progress['step']:06d}"
        with whole_folder(target) as folder:
            save_model(model, tokenizer, folder)
            trainer = {key: value for key, value in state.items() if key != "progress"}
            # Given a path, torch raises RuntimeError on a full disk; a file raises OSError.
            with (folder / TRAINER_FILE).open("wb") as file:
                torch.save(trainer, file)
            (folder / PROGRESS_FILE).write_text(json.dumps(progress, indent=1))
            if save_adapter is not None:
                save_adapter(folder / ADAPTER_FOLDER)
            if card is not None:
                replace_text(folder / CARD_FILE, card)
            seal(folder)
            if target.exists():  # the run was resumed at this step or before it
                target.rename(self.folder / f".{target.name}{REPLACED}")
        flush(self.folder)
        self.prune()
        return target

    def prune(self) -> None:
        """Deletes checkpoints that are neither new nor among the best, and the training state of
        old ones."""
        resumable = self.newest()[:RESUMABLE]
        best = [path for _, path in self.measured()[: self.keep_best]]
        for path in self.newest():
            if path not in (*resumable, *best):
                # Renamed first, so that a half-deleted folder is not taken for a checkpoint.
                path.rename(self.folder / f".{path.name}.deleted")
            elif path not in resumable:
                (path / TRAINER_FILE).unlink(missing_ok=True)
        for path in self.folder.glob(".step-*"):
            remove(path)

    def recover(self) -> None:
        """Puts back a checkpoint that was about to be replaced when the run was killed."""
        for path in self.folder.glob(f".step-*{REPLACED}"):
            target = self.folder / path.name[1:].removesuffix(REPLACED)
            if target.exists():
                remove(path)
            else:
                with suppress(FileNotFoundError):  # another process was faster
                    path.rename(target)

    def load(self) -> tuple[Path, dict[str, Any]] | None:
        """Returns the folder of the newest undamaged checkpoint, which holds the model, and the
        state of training, as it was given to `save`. None if the run has no checkpoint yet. Raises
        EchoError where all are damaged."""
        self.recover()
        candidates = self.newest()[:RESUMABLE]
        if not candidates:
            return None
        path = self.first_whole(candidates)
        file = path / TRAINER_FILE
        try:
            # weights_only loads tensors and plain values, and runs no code of a pickle.
            state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # damaged files raise errors of many kinds
            raise EchoError(f"{file}: holds no training state ({reason(error)})") from error
        progress = read_object(path / PROGRESS_FILE)
        if not isinstance(state, dict) or progress.get("step") != step_of(path):
            raise EchoError(f"{path}: holds no training state of its step")
        return path, {**state, "progress": progress}


def remove(path: Path) -> None:
    """Deletes a folder that is no longer needed, or what else bears its name: a link, but not what
    it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def step_of(path: Path) -> int | None:
    found = STEP.fullmatch(path.name)
    return int(found[1]) if found else None


def read_progress(path: Path) -> Progress | None:
    """A checkpoint's progress, or None if the file is missing or malformed."""
    try:
        content = json.loads((path / PROGRESS_FILE).read_text())
        return Progress.from_dict(content)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Writes a folder that `from_pretrained` and `pipeline` read: weights, configs, tokenizer, and
    a feature extractor that fits the encoder."""
    from transformers import WhisperProcessor

    model.save_pretrained(folder)
    WhisperProcessor(feature_extractor(model.config), tokenizer).save_pretrained(folder)


def feature_extractor(config: Any) -> Any:
    """Returns the `WhisperFeatureExtractor` that fits a Whisper's or an Echo model's encoder."""
    from transformers import WhisperFeatureExtractor

    seconds = ENCODER_STRIDE * config.max_source_positions // FRAMES_PER_SECOND
    # chunk_length is in whole seconds only.
    return WhisperFeatureExtractor(feature_size=config.num_mel_bins, chunk_length=max(1, seconds))
