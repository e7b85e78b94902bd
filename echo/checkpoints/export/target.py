"""What every export target says of itself."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from transformers import WhisperConfig, WhisperTokenizer

from echo.checkpoints.convert import make_plain
from echo.checkpoints.stored import Checkpoint
from echo.model.config import EchoConfig
from echo.model.whisper_names import plain_config
from echo.support.errors import ConfigError, DataError

Write = Callable[[Path], None]  # writes a model into a folder


@dataclass(frozen=True)
class Source:
    """A model to export."""

    name: str  # a run, a folder or a hub id, as it was given
    checkpoint: Checkpoint

    def as_whisper(self) -> tuple[WhisperConfig, WhisperTokenizer]:
        """Returns the config and the tokenizer of the Whisper that the model is. Raises EchoError
        where it is none, its parts do not fit together, or it has no tokenizer."""
        if isinstance(self.checkpoint.config, EchoConfig):
            try:
                make_plain(self.checkpoint, self.name)
            except ConfigError as error:
                raise ConfigError(f"{error}; --to onnx supports it") from None
        config = plain_config(self.checkpoint.config)
        tokenizer = self.checkpoint.checked_tokenizer(config)
        if tokenizer is None:
            raise DataError(f"{self.name}: holds no tokenizer, and other tools need one")
        return config, tokenizer


@dataclass(frozen=True)
class Target:
    """A format of another tool."""

    name: str  # of the target and its module
    about: str  # follows "A speech recogniser" on the card
    use: str  # Python code for the card
    # Checks that a model can be written in a precision, and returns what writes it.
    prepare: Callable[[Source, str | None], Write]
    # The first is the default; None leaves numbers as they are.
    precisions: tuple[str | None, ...] = (None,)
    library: str | None = None  # the hub's name for what reads it
    packages: tuple[str, ...] = ()  # that writing needs
    install: str = ""  # what pip installs them by
    any_length: bool = False  # whether recordings need no padding to 30 s

    def natural_length_note(self, config: WhisperConfig) -> str:
        """Returns what users of a model trained without padding to 30 s must know; else nothing."""
        if self.any_length or not isinstance(config, EchoConfig) or config.pad_to_seconds:
            return ""
        return (
            "Trained on recordings at their natural length. Tools made for Whisper pad them to "
            "30 s, so measure it with the tool that will run it."
        )

    def check_installed(self) -> None:
        """Raises ConfigError where packages that the target needs are not installed."""
        missing = [name for name in self.packages if find_spec(name) is None]
        if missing:
            raise ConfigError(
                f"export --to {self.name} needs {', '.join(missing)}; install it with: "
                f"pip install {self.install}"
            )
