"""A model to evaluate, from wherever it lies."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedModel, WhisperConfig

from echo.data.tokenizer import load_tokenizer
from echo.errors import EchoError
from echo.model import WHISPER_SECONDS, EchoConfig, EchoForConditionalGeneration
from echo.train.checkpoint import CheckpointFolder


@dataclass(frozen=True)
class LoadedModel:
    model: EchoForConditionalGeneration
    tokenizer: Any


def load_model(source: str, which: str = "best") -> LoadedModel:
    """Loads a run's checkpoint, an Echo or Whisper folder, or one of the hub.

    A Whisper checkpoint becomes an Echo model whose blocks are all plain, which is the same
    model on the same code path.

    Raises:
        EchoError: there is no such model, or it is neither Echo's nor Whisper's.
    """
    path = Path(source)
    if (path / "config.yaml").exists():
        source = str(CheckpointFolder(path).path(which))
    try:
        config = AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise EchoError(f"{source}: is neither a run nor a model ({reason})") from None
    if isinstance(config, EchoConfig):
        model = EchoForConditionalGeneration.from_pretrained(source, config=config)
    elif isinstance(config, WhisperConfig):
        config = EchoConfig(
            **{**config.to_dict(), "model_type": "echo"},
            attention={"encoder": "plain", "decoder": "plain"},
            pad_to_seconds=WHISPER_SECONDS,
        )
        model = EchoForConditionalGeneration.from_pretrained(source, config=config)
    else:
        raise EchoError(f"{source}: is a {config.model_type} model, not Echo's or Whisper's")
    return LoadedModel(model.float().eval(), load_tokenizer(source))


def to_device(model: PreTrainedModel) -> None:
    """Moves a model to the GPU, where there is one."""
    model.to("cuda" if torch.cuda.is_available() else "cpu")  # type: ignore[arg-type]
