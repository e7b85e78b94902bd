"""A model's config: Whisper's, with the attention of each layer and what else Echo adds."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import WhisperConfig

from echo.attention.forms import resolve_attention
from echo.attention.settings import AttentionSettings, FocusedSettings
from echo.support.settings import Range

ENCODER_POSITIONS = ("sinusoids", "none")
CTC_LAYERS = ("last", "mean")
WHISPER_SECONDS = 30.0  # in Whisper's training, all audio was padded to this length


@strict
class EchoConfig(WhisperConfig):
    r"""
    attention (`dict`, *optional*):
        The self-attention of each stack: `{"encoder": ..., "decoder": ...}`. Each is the name of a
        form, a mapping of settings with that name under `form`, or a list of either with one entry
        per layer. The forms are in `echo.attention.forms`. By default the encoder is adaptive and
        the decoder is plain.
    cross_positions (`bool`, *optional*, defaults to `False`):
        Whether the encoder's positions are added once more to its output for cross-attention. They
        help a decoder trained from scratch to keep its place. Whisper does not have them.
    encoder_positions (`str`, *optional*, defaults to `"sinusoids"`):
        What is added to the frames before the encoder's layers: Whisper's `"sinusoids"`, or
        `"none"`, if every layer has rotary positions. `cross_positions` are sinusoids in either
        case.
    ctc (`bool`, *optional*, defaults to `False`):
        Whether the encoder has a CTC head. Its blank is the padding token.
    ctc_vocabulary (`dict`, *optional*):
        The head's own tokenizer: its `kind`, the `size` that was asked for, and the `vocab` and
        `merges` of a byte-level BPE. None if its tokens are the decoder's.
    ctc_layers (`str`, *optional*, defaults to `"last"`):
        What the head hears: the encoder's output, `"last"`, or a learned `"mean"` of all layers.
    pad_to_seconds (`float`, *optional*):
        The length in seconds to which all audio was padded in training, such as Whisper's 30 s.
        None if it was not padded.
    added_silence (`float`, *optional*, defaults to 0):
        How many seconds of silence followed every utterance in training.
    """

    model_type = "echo"

    attention: dict | None = None
    cross_positions: bool = False
    encoder_positions: str = "sinusoids"
    ctc: bool = False
    ctc_vocabulary: dict | None = None
    ctc_layers: str = "last"
    pad_to_seconds: float | None = None
    added_silence: float = 0.0

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        for key in ("pad_to_seconds", "added_silence"):
            value = getattr(self, key)
            if value is not None and not Range(0).allows(value):
                raise ValueError(f"{key} is {value}, but must be {Range(0)}")
        if self.ctc_layers not in CTC_LAYERS:
            raise ValueError(
                f"ctc_layers is {self.ctc_layers!r}, but must be one of: {', '.join(CTC_LAYERS)}"
            )
        if self.ctc_vocabulary is not None:
            ids = self.ctc_vocabulary.get("vocab", {}).values()
            if not ids or sorted(ids) != [*range(len(ids))]:
                raise ValueError("ctc_vocabulary has no vocab with ids from 0 on")
        attention = self.resolved_attention()  # raises an error if a setting is not allowed
        if self.encoder_positions not in ENCODER_POSITIONS:
            raise ValueError(
                f"encoder_positions is {self.encoder_positions!r}, but must be one of: "
                f"{', '.join(ENCODER_POSITIONS)}"
            )
        if self.encoder_positions == "none" and not all(
            isinstance(layer, FocusedSettings) and layer.rotary_base
            for layer in attention["encoder"]
        ):
            raise ValueError(
                "encoder_positions: none needs a rotary_base in every layer of attention.encoder, "
                "or the encoder would know no positions"
            )

    @property
    def ctc_size(self) -> int:
        """The number of the CTC head's tokens."""
        return len(self.ctc_vocabulary["vocab"]) if self.ctc_vocabulary else self.vocab_size

    def resolved_attention(self) -> dict[str, list[AttentionSettings]]:
        """Returns the attention settings of each layer of the encoder and the decoder."""
        layers = {"encoder": self.encoder_layers, "decoder": self.decoder_layers}
        return resolve_attention(self.attention, layers)

    def encoder_attention(self) -> list[AttentionSettings]:
        """Returns the attention settings of each encoder layer."""
        return self.resolved_attention()["encoder"]

    def decoder_attention(self) -> list[AttentionSettings]:
        """Returns the attention settings of each decoder layer."""
        return self.resolved_attention()["decoder"]
