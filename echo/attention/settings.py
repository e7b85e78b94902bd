"""The settings that all forms of attention share. Each form adds its own in its own file.

Lengths are in positions: encoder frames after the convolutions (20 ms each), or decoder tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from echo.support.settings import Positive, Range

DEFAULT_FORM = "adaptive"  # used if a mapping has no form
# The stacks that have attention, and the form of each if a config does not name it.
STACK_FORMS: Mapping[str, str] = {"encoder": DEFAULT_FORM, "decoder": "plain"}
LocalKernel = Literal["blocks", "flex"]
TempScale = Annotated[float, Range(0, 0.999999)]


@dataclass(frozen=True)
class AttentionSettings:
    """The settings of one block's attention."""

    form: str = ""  # each form's settings class has the form's name as its default

    # Fields that must stay at their defaults in a block converted from Whisper, and why.
    not_from_whisper: ClassVar[Mapping[str, str]] = {}

    @property
    def is_plain(self) -> bool:
        """True for Whisper's own attention."""
        return self.form == PlainSettings.form


@dataclass(frozen=True)
class PlainSettings(AttentionSettings):
    """Whisper's own attention, which has no settings."""

    form: str = "plain"


@dataclass(frozen=True)
class FocusedSettings(AttentionSettings):
    """The settings of every focused form."""

    # Number of positions over which the global branch's keys and values are averaged, which keeps
    # the cost linear in length; 1 averages nothing.
    global_stride: Positive = 1
    # Most keys of the global branch at a stride above 1; utterances that would have more get a
    # longer stride; 750 keys are 60 s at a stride of 4.
    max_global_keys: Positive = 750
    # Base of the global branch's rotary positions; null has no such positions.
    rotary_base: Annotated[float, Range(1, above=True)] | None = None
    # Widest local span (M), in positions.
    max_span: Positive = 32
    # Weight of the local branch at the start of training; null is 1 in a new model, and 0 in a
    # block converted from Whisper, whose output then equals Whisper's.
    local_gain: Annotated[float, Range(0, 10)] | None = None

    not_from_whisper: ClassVar[Mapping[str, str]] = {
        "local_gain": "which is for models trained from scratch: a block made from a Whisper's "
        "starts at 0",
        "global_stride": "with which a block cannot begin as Whisper, whose attention has none",
        "rotary_base": "with which a block cannot begin as Whisper, whose attention has none",
    }

    @property
    def first_gain(self) -> float:
        """The local branch's gain in a new model."""
        return 1.0 if self.local_gain is None else self.local_gain
