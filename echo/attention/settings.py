"""The settings that every form of the attention has; each form adds its own in its own file.

Lengths count positions of the block: encoder frames after the convolutions (20 ms each), or tokens
in the decoder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from echo.support.settings import Positive, Range

DEFAULT_FORM = "adaptive"  # of a mapping that names none
LocalKernel = Literal["blocks", "flex"]
TempScale = Annotated[float, Range(0, 0.999999)]


@dataclass(frozen=True)
class AttentionSettings:
    """One block's attention."""

    form: str = ""  # each form's settings have its name as their default

    # Fields that a block made from a Whisper's must leave at their defaults, and why.
    not_from_whisper: ClassVar[Mapping[str, str]] = {}

    @property
    def is_plain(self) -> bool:
        """Whether this is Whisper's own attention."""
        return self.form == PlainSettings.form


@dataclass(frozen=True)
class PlainSettings(AttentionSettings):
    """Whisper's own attention, which has no settings."""

    form: str = "plain"


@dataclass(frozen=True)
class FocusedSettings(AttentionSettings):
    """What every focused form takes."""

    # Keys and values of the global branch are pooled over so many frames, and over more where an
    # utterance would otherwise have more than `max_global_keys`: then cost is linear in length.
    global_stride: Positive = 1
    max_global_keys: Positive = 750  # 60 s at a stride of 4; counts only with a stride
    # Base of the global branch's rotary positions; none where not given.
    rotary_base: Annotated[float, Range(1, above=True)] | None = None
    max_span: Positive = 32  # M: the widest local span
    # How much the local branch counts at the start of training: 1 from scratch where not given. A
    # block made from a Whisper's starts at 0, with the Whisper's output.
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
