"""Writes a model in the format of another tool."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from echo.checkpoints.card import CARD_FILE
from echo.checkpoints.export.card import MeasuredWer, export_card, training_wer
from echo.checkpoints.export.target import Source
from echo.checkpoints.export.targets import find_target
from echo.checkpoints.load import open_checkpoint
from echo.support.files import new_folder, replace_text, whole_folder

logger = logging.getLogger(__name__)


def export(
    source: str | Path,
    out: str | Path,
    target: str,
    quantization: str | None = None,
    which: str = "best",
    measured: Callable[[Path], Sequence[MeasuredWer]] = training_wer,
) -> None:
    """Writes a model into a new folder, for another tool.

    Args:
        source: a run, or the folder or hub id of a model.
        out: the folder to write; it must not exist, or be empty.
        target: one of `TARGETS`.
        quantization: the precision of its numbers, one of the target's; None is the first of them,
            which may be to leave numbers as they are.
        which: checkpoint of a run, "best" or "last".
        measured: finds the error rates of the checkpoint in a folder, for the card.
    """
    source, out = str(source), Path(out).absolute()
    found = find_target(target, quantization)
    found.check_installed()
    new_folder(out)
    model = Source(source, open_checkpoint(source, which))
    write = found.prepare(model, quantization or found.precisions[0])
    note = found.natural_length_note(model.checkpoint.config)
    if note:
        logger.warning("%s: %s", source, note)
    command = ["echo-asr", "export", source, out.name, "--to", target]
    command += ["--quantization", quantization] if quantization else []
    card = export_card(model, found, command, measured(model.checkpoint.folder), note)
    with whole_folder(out) as new:
        write(new)
        replace_text(new / CARD_FILE, card)
