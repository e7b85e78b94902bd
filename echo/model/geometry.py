"""Converts between samples, feature frames, encoder frames and seconds."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

SAMPLE_RATE = 16_000  # Hz
HOP_LENGTH = 160  # samples from one feature frame to the next
FRAMES_PER_SECOND = SAMPLE_RATE // HOP_LENGTH  # feature frames
ENCODER_STRIDE = 2  # feature frames per encoder frame: the stride of the second convolution
ENCODER_FRAME_SECONDS = ENCODER_STRIDE / FRAMES_PER_SECOND


def feature_frames(samples: int) -> int:
    """Returns the number of feature frames for a number of samples: one per started hop."""
    return -(-samples // HOP_LENGTH)


def encoder_frames(frames: int) -> int:
    """Returns the number of encoder frames for a number of feature frames."""
    return (frames - 1) // ENCODER_STRIDE + 1


def encoder_mask(attention_mask: "torch.Tensor") -> "torch.Tensor":
    """Converts a mask over features (B, frames) to one over the encoder's output
    (B, ceil(frames / 2)). Encoder frame t corresponds to feature frame 2t."""
    import torch

    # Not a slice: for `torch.export`, its length would be another expression than a convolution's.
    frames = torch.arange(encoder_frames(attention_mask.shape[1]), device=attention_mask.device)
    return attention_mask[:, ENCODER_STRIDE * frames]


def encoder_lengths(attention_mask: "torch.Tensor") -> "torch.Tensor":
    """Returns the number of valid encoder frames (B,) for a mask over features (B, frames)."""
    return encoder_mask(attention_mask).sum(1)


@dataclass(frozen=True)
class Limits:
    """The most audio and text that a model accepts, and the silence it expects after audio."""

    n_mels: int
    max_frames: int  # feature frames
    max_tokens: int
    pad_to_seconds: float = 0.0  # minimum length of audio plus silence, in seconds
    added_silence: float = 0.0  # minimum silence, in seconds

    @classmethod
    def of(cls, config: Any) -> "Limits":
        """Reads the limits of a model from its EchoConfig."""
        return cls(
            config.num_mel_bins,
            ENCODER_STRIDE * config.max_source_positions,
            config.max_target_positions,
            config.pad_to_seconds or 0.0,
            config.added_silence,
        )

    def padded(self, length: int, rate: int = SAMPLE_RATE) -> int:
        """Returns the length of audio plus silence, limited to what the encoder accepts. Lengths
        are in units of 1/`rate` s: samples by default, feature frames for FRAMES_PER_SECOND."""
        wanted = max(length + round(self.added_silence * rate), round(self.pad_to_seconds * rate))
        return max(length, min(wanted, self.max_frames * rate // FRAMES_PER_SECOND))

    def padded_seconds(self, seconds: float) -> float:
        """Like `padded`, for a duration in seconds. Returns it unchanged if no silence is added."""
        wanted = max(seconds + self.added_silence, self.pad_to_seconds)
        return max(seconds, min(wanted, self.max_frames / FRAMES_PER_SECOND))
