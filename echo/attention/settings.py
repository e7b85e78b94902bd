"""What can be set of an attention block, and what each setting may be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

Form = Literal["plain", "hybrid", "scaled", "focus", "adaptive"]
Temperature = Literal["span", "learned"]
LocalInput = Literal["shared", "input", "projected"]
LocalKernel = Literal["blocks", "flex"]

HARD_FORMS = ("hybrid", "scaled", "focus")
# What a form takes for the fields that are not given, where it is not what the others take.
FORM_DEFAULTS: dict[str, dict[str, Any]] = {
    "scaled": {"max_span": 128, "window": 16, "temp_scale": 0.1},
}


@dataclass(frozen=True)
class AttentionSettings:
    """One block's attention. Lengths count positions of that block: encoder frames after the
    convolutions (20 ms each), or tokens in the decoder.

    A `plain` block is Whisper's and ignores the rest; `hybrid`, `scaled` and `focus` use the
    fields under "hard windows", `adaptive` those under "trainable span".
    """

    form: Form = "adaptive"
    # Keys and values of the global branch are pooled over so many frames, and over more where an
    # utterance would otherwise have more than `max_global_keys`: then cost is linear in length.
    global_stride: int = 1
    max_global_keys: int = 750  # 60 s at a stride of 4; counts only with a stride
    rotary_base: float | None = None  # rotary positions in the global branch, of this base
    max_span: int = 32  # M: the widest local span
    temp_scale: float = 0.01  # c: how strongly the span moves the softmax temperature
    sharpen_longer: bool = False  # sharper for longer spans, rather than for shorter ones
    # How much the local branch counts at the start of training: 1 from scratch where not given. A
    # block made from a Whisper's starts at 0, with the Whisper's output.
    local_gain: float | None = None
    local_kernel: LocalKernel = "blocks"  # or, on CUDA, PyTorch's compiled flex_attention

    # hard windows
    window: int = 32  # W: the widest local window
    max_dist: int = 128  # R: the furthest relative distance
    refiner: bool = False  # focus: learn by Q-learning when to shrink the span

    # trainable span
    ramp: int = 8  # positions over which the window's edge fades out
    span_per_head: bool = False
    relative_bias: bool = False  # a learned bias per head and distance, added to local scores
    temperature: Temperature = "span"  # from the span as in the hybrid form, or one per head
    local_input: LocalInput = "shared"  # where the local branch's query, key and value come from

    def __post_init__(self) -> None:
        for field, choices in (
            ("form", Form),
            ("temperature", Temperature),
            ("local_input", LocalInput),
            ("local_kernel", LocalKernel),
        ):
            value = getattr(self, field)
            if value not in get_args(choices):
                allowed = ", ".join(get_args(choices))
                raise ValueError(f"attention {field} is {value!r}, but must be one of: {allowed}")
        for field in (
            "global_stride",
            "max_global_keys",
            "max_span",
            "window",
            "max_dist",
            "ramp",
        ):
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"attention {field} is {value!r}, but must be a whole number >= 1")
        for field in ("sharpen_longer", "span_per_head", "relative_bias", "refiner"):
            if not isinstance(getattr(self, field), bool):
                raise ValueError(
                    f"attention {field} is {getattr(self, field)!r}, but must be true or false"
                )
        if not isinstance(self.temp_scale, int | float) or not 0 <= self.temp_scale < 1:
            raise ValueError(
                f"attention temp_scale is {self.temp_scale!r}, but must be a number in [0, 1)"
            )
        if self.local_gain is not None and not (
            isinstance(self.local_gain, int | float)
            and not isinstance(self.local_gain, bool)
            and 0 <= self.local_gain <= 10
        ):
            raise ValueError(
                f"attention local_gain is {self.local_gain!r}, but must be a number in [0, 10]"
            )
        if self.refiner and self.form != "focus":
            raise ValueError(f"attention refiner belongs to the form focus, not to {self.form}")
        if self.is_plain and (self.global_stride > 1 or self.rotary_base is not None):
            field = "global_stride" if self.global_stride > 1 else "rotary_base"
            raise ValueError(f"attention {field} belongs to the focused forms, not to plain")
        if self.rotary_base is not None and not (
            isinstance(self.rotary_base, int | float) and self.rotary_base > 1
        ):
            raise ValueError(
                f"attention rotary_base is {self.rotary_base!r}, but must be a number above 1"
            )
        if self.form in HARD_FORMS:
            # A window longer than its attended part would drop the frames in between.
            for bound in ("max_span", "max_dist"):
                if self.window > getattr(self, bound):
                    raise ValueError(
                        f"attention window ({self.window}) must not exceed {bound} "
                        f"({getattr(self, bound)}): frames beyond it would be lost"
                    )

    @property
    def first_gain(self) -> float:
        """The local branch's gain at the start of training from scratch."""
        return 1.0 if self.local_gain is None else self.local_gain

    @property
    def is_plain(self) -> bool:
        return self.form == "plain"

    @classmethod
    def from_value(cls, value: Any) -> "AttentionSettings":
        """Reads a form's name, or a mapping of fields.

        Raises:
            ValueError: the value names an unknown form or field, or a field's value is not allowed.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            value = {"form": value}
        if not isinstance(value, Mapping):
            raise ValueError(f"attention is {value!r}, but must be a form's name or a mapping")
        known = [field.name for field in fields(cls)]
        for key in value:
            if key not in known:
                raise ValueError(f"attention has no field {key!r}; it has: {', '.join(known)}")
        return cls(**{**FORM_DEFAULTS.get(str(value.get("form", cls.form)), {}), **value})


def resolve_layers(value: Any, layers: int, stack: str) -> list[AttentionSettings]:
    """Spreads one stack's setting over its layers: one value for all, or a list with one each.

    Raises:
        ValueError: the list's length is not the number of layers, or an entry is not allowed.
    """
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) != layers:
            raise ValueError(
                f"attention.{stack} lists {len(value)} blocks, but there are {layers} layers"
            )
        return [AttentionSettings.from_value(entry) for entry in value]
    return [AttentionSettings.from_value(value)] * layers
