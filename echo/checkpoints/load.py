"""Loads a model from a run, a folder or the hub."""

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, WhisperConfig

from echo.checkpoints.ctranslate2 import CTranslate2Folder
from echo.checkpoints.generation import GENERATION_FILE, check_generation, overridden
from echo.checkpoints.pretrained import PretrainedFolder, download
from echo.checkpoints.run import CheckpointFolder, Which
from echo.checkpoints.stored import TIED, Checkpoint
from echo.data.tokenizer import ctc_tokenizer, load_tokenizer
from echo.model.config import WHISPER_SECONDS, EchoConfig
from echo.model.generation import SINGLE_TOKENS, SUPPRESSED
from echo.model.language import Task, complete_languages, set_language
from echo.model.model import EchoForConditionalGeneration
from echo.support.errors import DataError, EchoError
from echo.support.files import read_object
from echo.support.settings import convert

logger = logging.getLogger(__name__)

PLAIN = {"encoder": "plain", "decoder": "plain"}


@dataclass(frozen=True)
class LoadedModel:
    model: EchoForConditionalGeneration
    tokenizer: Any
    checkpoint: str | None = None  # the name of a run's, as "step-1000"

    @cached_property
    def ctc_tokenizer(self) -> Any:
        """The tokenizer of the CTC head: its own, or the decoder's."""
        return ctc_tokenizer(self.model.config, self.tokenizer)


def load_model(
    source: str | Path,
    which: str = "best",
    language: str | None = None,
    task: Task | None = None,
) -> LoadedModel:
    """Loads a run's checkpoint, an Echo or Whisper folder, or one of the hub.

    A Whisper checkpoint becomes an Echo model whose blocks are all plain, which is the same
    model on the same code path.

    Args:
        which: checkpoint of a run, "best" or "last".
        language: of a multilingual model; see `echo.model.language.set_language`.
        task: of a multilingual model, "transcribe" or "translate".

    Raises:
        EchoError: there is no such model, it is neither an Echo nor a Whisper model, its files are
            damaged or do not fit together, or it does not know the language.
    """
    source = str(source)
    convert(str | None, language, "load_model", "language")
    convert(Task | None, task, "load_model", "task")
    folder = model_folder(source, which)
    name = folder.name if (Path(source) / "config.yaml").exists() else None
    checkpoint, config = open_as_echo(folder)
    tokenizer = load_tokenizer(folder)
    checkpoint.check_tokenizer(tokenizer)
    model = with_weights_of(checkpoint, config)
    model.generation_config = generation_of(checkpoint, config, tokenizer)
    set_language(model, tokenizer, source, language, task)
    return LoadedModel(model.eval(), tokenizer, name)


def with_weights_of(
    checkpoint: PretrainedFolder, config: EchoConfig
) -> EchoForConditionalGeneration:
    """Returns a model with the weights that were checked, in float32."""
    config.name_or_path = str(checkpoint.folder)
    weights = checkpoint.untied_weights(config)
    config.tie_word_embeddings &= TIED not in weights
    with torch.device("meta"):
        model = EchoForConditionalGeneration(config)
    tensors = {key: stored.load(torch.float32) for key, stored in weights.items()}
    for key, value in model.state_dict().items():
        if key in tensors and value.is_floating_point() > tensors[key].is_floating_point():
            raise DataError(f"{weights[key].name} holds whole numbers, which are no weights")
    model.load_state_dict(tensors, strict=False, assign=True)  # what is tied is missing
    model.tie_weights()
    return model


def generation_of(checkpoint: PretrainedFolder, config: EchoConfig, tokenizer: Any) -> Any:
    """Returns a checkpoint's generation config, with what an older one leaves open, and names what
    in it has no effect on Echo's decoding."""
    generation: Any = checkpoint.generation or GenerationConfig(
        max_length=config.max_target_positions,
        **{key: list(getattr(config, key) or []) for key in SUPPRESSED},
    )
    for key in SINGLE_TOKENS:
        if getattr(generation, key, None) is None and hasattr(config, key):
            setattr(generation, key, getattr(config, key))
    ignored = overridden(generation, config)
    if ignored:
        path = checkpoint.folder / GENERATION_FILE
        logger.warning("%s: not used: %s", path, ", ".join(ignored))
    try:
        generation.validate(strict=True)
    except ValueError:  # transformers would not save it
        for key in ignored:
            setattr(generation, key, None)
    if getattr(generation, "forced_decoder_ids", None) is None:
        generation.forced_decoder_ids = getattr(config, "forced_decoder_ids", None)
    config.forced_decoder_ids = None
    complete_languages(generation, tokenizer.get_vocab(), config.vocab_size)
    check_generation(checkpoint.folder, generation.to_dict(), config)
    return generation


def open_as_echo(folder: Path) -> tuple[PretrainedFolder, EchoConfig]:
    """Opens and checks a folder of `transformers`, and returns its config as an Echo model's."""
    checkpoint = PretrainedFolder(folder)
    config = echo_config(checkpoint.config)
    checkpoint.check_model(config)
    return checkpoint, config


def echo_config(config: WhisperConfig, attention: dict[str, Any] | None = PLAIN) -> EchoConfig:
    """Returns a Whisper's config as that of an Echo model of some attention, and Echo's
    unchanged."""
    if isinstance(config, EchoConfig):
        return config
    own = {
        "model_type": "echo",
        "architectures": ["EchoForConditionalGeneration"],
        "attention": attention,
        "pad_to_seconds": WHISPER_SECONDS,
    }
    told = {k: v for k, v in config.to_dict().items() if k not in EchoConfig.__annotations__}
    return EchoConfig(**{**told, **own})


def open_checkpoint(source: str | Path, which: str = "best") -> Checkpoint:
    """Opens a run's checkpoint, or a model of `transformers` or of CTranslate2."""
    folder = model_folder(str(source), which)
    if (folder / "model.bin").exists() and "model_type" not in read_object(folder / "config.json"):
        return CTranslate2Folder(folder)
    return PretrainedFolder(folder)


def model_folder(source: str, which: str = "best") -> Path:
    """Returns the folder of a run's checkpoint, a model's own, or that to which one of the hub was
    downloaded. Raises EchoError where there is no such model."""
    convert(Which, which, source, "the checkpoint")
    folder = Path(source)
    if (folder / "config.yaml").exists():
        return CheckpointFolder(folder).path(which)
    if folder.is_dir():
        if (folder / "config.json").exists():
            return folder
        raise EchoError(f"{source}: is neither a run nor a model (it has no config.json)")
    if folder.exists():
        raise DataError(f"{source}: is a file, not the folder of a model")
    return download(source)


def to_device(model: PreTrainedModel) -> None:
    """Moves a model to the GPU, where there is one."""
    model.to("cuda" if torch.cuda.is_available() else "cpu")  # type: ignore[arg-type]
