"""Writes a model in the format of another tool."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from transformers import WhisperForConditionalGeneration

from echo.checkpoints.card import CARD_FILE
from echo.checkpoints.convert import check_plain
from echo.checkpoints.export import ctranslate2, onnx
from echo.checkpoints.export.card import (
    MeasuredWer,
    export_card,
    find_origin,
    natural_length_note,
    training_wer,
)
from echo.checkpoints.export.ggml import MODEL_FILE, check_whisper_cpp, write_ggml
from echo.checkpoints.export.targets import TARGETS, check_target
from echo.checkpoints.export.transcription import write_transcription
from echo.checkpoints.export.whisper import write_whisper
from echo.checkpoints.load import load_model, open_checkpoint
from echo.checkpoints.stored import Checkpoint
from echo.checkpoints.validate import check_parts
from echo.model.language import language_of_text
from echo.model.model import EchoConfig
from echo.model.whisper import plain_config
from echo.support.errors import ConfigError, DataError
from echo.support.files import new_folder, whole_folder

logger = logging.getLogger(__name__)

Write = Callable[[Path], None]  # writes a model into a folder


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
        target: "whisper", "ctranslate2", "ggml" or "onnx".
        quantization: the precision of its numbers, one of the target's in `TARGETS`; None is the
            first of them, which may be to leave numbers as they are.
        which: checkpoint of a run, "best" or "last".
        measured: finds the error rates of the checkpoint in a folder, for the card.

    Raises:
        EchoError: the source cannot be read, the target cannot hold it, or the folder cannot be
            written. Nothing is left of it then.
    """
    source, out = str(source), Path(out).absolute()
    check_target(target, quantization)
    if target == "onnx":
        onnx.check_installed()
    elif target == "ctranslate2":
        ctranslate2.check_installed()
    new_folder(out)
    checkpoint = open_checkpoint(source, which)
    folder = checkpoint.folder
    precision = quantization or TARGETS[target][0]
    if target == "onnx":
        write = onnx_writer(source, which, precision)
    else:
        write = whisper_writer(source, checkpoint, target, precision)
    note = natural_length_note(checkpoint.config) if target != "onnx" else ""
    if note:
        logger.warning("%s: %s", source, note)
    command = ["echo-asr", "export", source, out.name, "--to", target]
    command += ["--quantization", quantization] if quantization else []
    card = export_card(
        find_origin(source, folder),
        target,
        command,
        language_of_text(checkpoint.generation),
        measured(folder),
        note,
    )
    with whole_folder(out) as new:
        write(new)
        (new / CARD_FILE).write_text(card, encoding="utf-8")


def onnx_writer(source: str, which: str, precision: str | None) -> Write:
    loaded = load_model(source, which)

    def write(folder: Path) -> None:
        onnx.write_onnx(loaded.model, folder, int8=precision == "int8")
        write_transcription(loaded.model, loaded.tokenizer, folder)

    return write


def whisper_writer(
    source: str, checkpoint: Checkpoint, target: str, precision: str | None
) -> Write:
    """Checks that a checkpoint is a Whisper that the target can hold.

    Raises:
        EchoError: it is not.
    """
    if isinstance(checkpoint.config, EchoConfig):
        try:
            check_plain(checkpoint.config, source)
        except ConfigError as error:
            raise ConfigError(f"{error}; --to onnx holds it") from None
    config = plain_config(checkpoint.config)
    tokenizer = check_parts(checkpoint, WhisperForConditionalGeneration, config)
    if tokenizer is None:
        raise DataError(f"{source}: holds no tokenizer, without which no other tool can use it")
    if target == "ggml":
        assert precision is not None
        weights = checkpoint.untied_weights(config)
        check_whisper_cpp(config, tokenizer, weights)
        return lambda folder: write_ggml(config, tokenizer, weights, folder / MODEL_FILE, precision)
    if target == "ctranslate2":
        ctranslate2.check_special_tokens(tokenizer)
        return lambda folder: ctranslate2.write_ctranslate2(
            checkpoint, config, tokenizer, folder, precision
        )
    return lambda folder: write_whisper(checkpoint, config, tokenizer, folder)
