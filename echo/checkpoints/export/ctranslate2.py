"""CTranslate2's format, which faster-whisper reads, by its own converter."""

from pathlib import Path
from tempfile import TemporaryDirectory

from echo.checkpoints.export.target import Source, Target, Write
from echo.checkpoints.export.whisper import write_whisper
from echo.support.errors import ConfigError

# The prompts that CTranslate2 and faster-whisper make have these.
SPECIAL_TOKENS = ("<|startofprev|>", "<|transcribe|>", "<|notimestamps|>")
COPIED = ["tokenizer.json", "preprocessor_config.json"]


def prepare(source: Source, precision: str | None) -> Write:
    """Raises EchoError where the model is not a Whisper with all special tokens."""
    config, tokenizer = source.as_whisper()
    known = tokenizer.get_vocab()
    if lacking := [token for token in SPECIAL_TOKENS if token not in known]:
        raise ConfigError(f"CTranslate2 does not support a tokenizer without {lacking[0]}")

    def write(folder: Path) -> None:
        from ctranslate2.converters import TransformersConverter

        with TemporaryDirectory(dir=folder, prefix=".") as temporary:
            whisper, converted = Path(temporary) / "whisper", Path(temporary) / "converted"
            whisper.mkdir()
            write_whisper(source.checkpoint, config, tokenizer, whisper)
            TransformersConverter(str(whisper), copy_files=COPIED).convert(
                str(converted), quantization=precision
            )
            for path in converted.iterdir():
                path.rename(folder / path.name)

    return write


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
