"""A loss by which a model learns from a larger one, as Distil-Whisper did (Gandhi et al. 2023,
arXiv 2311.00430)."""

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from echo.checkpoints.load import load_model
from echo.config import RunConfig
from echo.model.geometry import FRAMES_PER_SECOND, Limits
from echo.model.model import EchoForConditionalGeneration
from echo.support.distributed import Processes
from echo.support.errors import ConfigError
from echo.train.losses.base import Setup
from echo.train.losses.divergence import Divergence

# Settings by which an encoder computes something else in training.
RANDOM = ("dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop")


class TeacherLoss(Divergence):
    """The divergence from a teacher's distribution over the labels."""

    name = "teacher_kl"
    setting = "teacher"

    def __init__(self, setup: Setup) -> None:
        settings = setup.config.loss.teacher
        assert settings is not None
        with Processes.started().together():
            teacher = load_teacher(settings.model, setup)
        self.shares_encoder = have_one_encoder(setup.model, teacher)
        if self.shares_encoder:
            teacher.model.encoder.layers = nn.ModuleList()  # which takes no memory
        super().__init__(setup, teacher, settings.temperature)

    @classmethod
    def weight_in(cls, config: RunConfig) -> float:
        return config.loss.teacher.weight if config.loss.teacher else 0.0


def load_teacher(source: str, setup: Setup) -> EchoForConditionalGeneration:
    """Loads a teacher.

    Raises:
        ConfigError: it cannot teach the model that is trained.
        EchoError: it cannot be loaded.
    """
    loaded = load_model(source)
    teacher, student = loaded.model.config, setup.model.config
    problem = None
    if (
        teacher.vocab_size != student.vocab_size
        or loaded.tokenizer.get_vocab() != setup.tokenizer.get_vocab()
    ):
        problem = "has other tokens than the model that is trained"
    theirs, own = Limits.of(teacher), Limits.of(student)
    if theirs.n_mels != own.n_mels:
        problem = f"hears {theirs.n_mels} mel bands, and the model that is trained {own.n_mels}"
    elif theirs.max_frames < own.max_frames:
        longest, needed = (limits.max_frames / FRAMES_PER_SECOND for limits in (theirs, own))
        problem = f"hears at most {longest:g} s, and the model that is trained {needed:g} s"
    elif theirs.max_tokens < own.max_tokens:
        problem = (
            f"reads at most {theirs.max_tokens} tokens, and the model that is trained "
            f"{own.max_tokens}"
        )
    if problem:
        raise ConfigError(f"loss.teacher.model: {source} {problem}; choose another teacher")
    return loaded.model


def have_one_encoder(
    student: EchoForConditionalGeneration, teacher: EchoForConditionalGeneration
) -> bool:
    """Returns whether a student's encoder computes what its teacher's does, and goes on to: its
    weights are equal and frozen, and nothing is dropped. All processes must call it."""
    encoder, config, other = student.model.encoder, student.config, teacher.config
    # A buffer may learn without gradients.
    if [*encoder.buffers()] or any(p.requires_grad for p in encoder.parameters()):
        return False
    if config.apply_spec_augment or any(getattr(config, name) for name in RANDOM):
        return False
    if any(
        getattr(config, name) != getattr(other, name)
        for name in ("encoder_attention_heads", "activation_function", "encoder_positions")
    ):
        return False
    own, theirs = encoder.state_dict(), teacher.model.encoder.state_dict()
    return (
        config.encoder_attention() == other.encoder_attention()
        and own.keys() == theirs.keys()
        and all(equal(weight, theirs[name]) for name, weight in own.items())
    )


def equal(weight: torch.Tensor, other: torch.Tensor) -> bool:
    """Returns whether a weight, which FSDP may have sharded, is another one."""
    whole = weight.full_tensor() if isinstance(weight, DTensor) else weight
    return torch.equal(whole.cpu(), other)
