"""Writes a model in the format of another tool."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from echo.checkpoints.card import CARD_FILE, MeasuredWer, exported_card
from echo.checkpoints.export.origin import find_origin, natural_length_note, training_wer
from echo.checkpoints.export.target import Source
from echo.checkpoints.export.targets import find_target
from echo.checkpoints.load import open_checkpoint
from echo.model.language import language_of_text
from echo.support.files import new_folder, whole_folder

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

    Raises:
        EchoError: the source cannot be read, the target cannot hold it, or the folder cannot be
            written. Nothing is left of it then.
    """
    source, out = str(source), Path(out).absolute()
    found = find_target(target, quantization)
    found.check_installed()
    new_folder(out)
    checkpoint = open_checkpoint(source, which)
    write = found.prepare(Source(source, which, checkpoint), quantization or found.precisions[0])
    note = "" if found.any_length else natural_length_note(checkpoint.config)
    if note:
        logger.warning("%s: %s", source, note)
    origin = find_origin(source, checkpoint.folder)
    command = ["echo-asr", "export", source, out.name, "--to", target]
    command += ["--quantization", quantization] if quantization else []
    card = exported_card(
        origin.name,
        found.about,
        found.use,
        command,
        measured(checkpoint.folder),
        origin.evaluated,
        note,
        tags=["whisper", target],
        library=found.library,
        language=language_of_text(checkpoint.generation),
        license=origin.licence,
        base_model=origin.base_model,
    )
    with whole_folder(out) as new:
        write(new)
        (new / CARD_FILE).write_text(card, encoding="utf-8")
