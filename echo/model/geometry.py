"""The geometry of audio: samples, frames of features, frames of the encoder, and seconds."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

SAMPLE_RATE = 16_000  # Hz
HOP_LENGTH = 160  # samples from one frame of features to the next
FRAMES_PER_SECOND = SAMPLE_RATE // HOP_LENGTH  # of features
ENCODER_STRIDE = 2  # of the second convolution: frames of features per frame of the encoder
ENCODER_FRAME_SECONDS = ENCODER_STRIDE / FRAMES_PER_SECOND


def feature_frames(samples: int) -> int:
    """How many frames of features there are of so many samples: one for each hop begun."""
    return -(-samples // HOP_LENGTH)


def encoder_frames(frames: int) -> int:
    """How many frames the encoder makes of so many frames of features."""
    return -(-frames // ENCODER_STRIDE)


def encoder_mask(attention_mask: "torch.Tensor") -> "torch.Tensor":
    """A mask over features (B, frames) as one over the encoder's output (B, ceil(frames / 2)):
    encoder frame t stands at feature frame 2t."""
    return attention_mask[:, ::ENCODER_STRIDE]


def encoder_lengths(attention_mask: "torch.Tensor") -> "torch.Tensor":
    """How many encoder frames are valid, (B,), by a mask over features (B, frames)."""
    return encoder_mask(attention_mask).sum(1)


@dataclass(frozen=True)
class Limits:
    """How much audio and text a model takes, and the silence it expects after audio."""

    n_mels: int
    max_frames: int  # of features
    max_tokens: int
    pad_to_seconds: float = 0.0  # audio and silence last this long at least
    added_silence: float = 0.0  # seconds of silence at least

    @classmethod
    def of(cls, config: Any) -> "Limits":
        """The limits of a model, by its EchoConfig."""
        return cls(
            config.num_mel_bins,
            ENCODER_STRIDE * config.max_source_positions,
            config.max_target_positions,
            config.pad_to_seconds or 0.0,
            config.added_silence,
        )

    def padded(self, length: int, rate: int = SAMPLE_RATE) -> int:
        """The length of audio with its silence, as far as the encoder takes it. Lengths are in
        steps of 1/`rate` s: samples by default, frames of features for FRAMES_PER_SECOND."""
        wanted = max(
            length + round(self.added_silence * rate),
            round(self.pad_to_seconds * rate),
        )
        return max(length, min(wanted, self.max_frames * rate // FRAMES_PER_SECOND))

    def padded_seconds(self, seconds: float) -> float:
        """As `padded`, of a duration; the duration itself where no silence is added."""
        wanted = max(seconds + self.added_silence, self.pad_to_seconds)
        return max(seconds, min(wanted, self.max_frames / FRAMES_PER_SECOND))
