"""What tells speech from other sounds: the rule of `echo.data.voice`, or Silero's detector, which
the extra `vad` installs."""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F

from echo.data.voice import WINDOW, voiced
from echo.model.geometry import HOP_LENGTH, SAMPLE_RATE
from echo.support.errors import ConfigError

Vad = Literal["energy", "silero"]

BLOCK = 512  # samples for which Silero's detector gives a probability
THRESHOLD = 0.5


def find_voice(vad: Vad) -> Callable[[torch.Tensor], torch.Tensor]:
    """Returns `echo.data.voice.voiced`, or a function that says the same by Silero's detector.
    Raises ConfigError where that is not installed."""
    if vad == "energy":
        return voiced
    silero()
    return voiced_by_silero


@cache
def silero() -> Any:
    threads = torch.get_num_threads()
    try:
        from silero_vad import load_silero_vad

        return load_silero_vad(sequence=True)
    except ImportError as error:
        raise ConfigError(
            f"--vad silero needs the extra 'vad' ({error}): pip install 'echo-asr[vad]'"
        ) from None
    finally:
        torch.set_num_threads(threads)  # which importing it sets to 1


def voiced_by_silero(samples: torch.Tensor) -> torch.Tensor:
    padded = F.pad(samples, (0, max(0, WINDOW - len(samples))))
    probabilities = torch.from_numpy(silero().audio_forward(padded.numpy(), SAMPLE_RATE))
    middles = torch.arange(0, len(padded) - WINDOW + 1, HOP_LENGTH) + WINDOW // 2
    return probabilities[middles // BLOCK] > THRESHOLD
