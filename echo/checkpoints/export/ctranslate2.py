"""CTranslate2's format, which faster-whisper reads, by its own converter."""

from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import WhisperConfig, WhisperTokenizer

from echo.checkpoints.export.target import Source, Target, Write
from echo.checkpoints.export.whisper import write_whisper
from echo.checkpoints.stored import Checkpoint
from echo.support.errors import ConfigError

# The prompts that CTranslate2 and faster-whisper make have these.
SPECIAL_TOKENS = ("<|startofprev|>", "<|transcribe|>", "<|notimestamps|>")
COPIED = ["tokenizer.json", "preprocessor_config.json"]


def check_special_tokens(tokenizer: WhisperTokenizer) -> None:
    """Raises ConfigError where a tokenizer lacks special tokens of Whisper's."""
    known = tokenizer.get_vocab()
    lacking = [token for token in SPECIAL_TOKENS if token not in known]
    if lacking:
        raise ConfigError(f"CTranslate2 does not support a tokenizer without {lacking[0]}")


def write_ctranslate2(
    checkpoint: Checkpoint,
    config: WhisperConfig,
    tokenizer: WhisperTokenizer,
    folder: Path,
    quantization: str | None,
) -> None:
    """Converts a checkpoint into a folder, with weights of the type that CTranslate2 calls
    `quantization`; None keeps theirs."""
    from ctranslate2.converters import TransformersConverter

    with TemporaryDirectory(dir=folder, prefix=".") as temporary:
        source, converted = Path(temporary) / "whisper", Path(temporary) / "converted"
        source.mkdir()
        write_whisper(checkpoint, config, tokenizer, source)
        TransformersConverter(str(source), copy_files=COPIED).convert(
            str(converted), quantization=quantization
        )
        for path in converted.iterdir():
            path.rename(folder / path.name)


def prepare(source: Source, precision: str | None) -> Write:
    """Raises EchoError where the model is not a Whisper with all special tokens."""
    config, tokenizer = source.as_whisper()
    check_special_tokens(tokenizer)
    return lambda folder: write_ctranslate2(source.checkpoint, config, tokenizer, folder, precision)


TARGET = Target(
    "ctranslate2",
    "in the CTranslate2 format, for faster-whisper",
    """\
from faster_whisper import WhisperModel

segments, _ = WhisperModel(".").transcribe("recording.wav")
print("".join(segment.text for segment in segments))
""",
    prepare,
    (
        None,
        "float32",
        "float16",
        "bfloat16",
        "int8",
        "int8_float32",
        "int8_float16",
        "int8_bfloat16",
        "int16",
    ),
    library="ctranslate2",
    packages=("ctranslate2",),
    install="ctranslate2",
)
