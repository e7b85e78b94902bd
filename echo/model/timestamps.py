"""Whisper's timestamps in a vocabulary to which tokens of text were added after them.

`transformers` takes every id after <|notimestamps|> for a timestamp. While it looks, all ids are
moved, so that the added tokens come first.
"""

from typing import Any

import torch
from transformers.generation.logits_process import WhisperTimeStampLogitsProcessor

TIMESTAMPS = 1501  # tokens after <|notimestamps|>, for every 20 ms from 0 s to 30 s


def added_tokens(size: int, first_timestamp: int) -> int:
    """Returns how many tokens a vocabulary of this size has after the timestamps."""
    return max(0, size - first_timestamp - TIMESTAMPS)


def moved(ids: torch.Tensor, by: int, size: int) -> torch.Tensor:
    """Returns the ids after the columns of a vocabulary were rolled by so many places."""
    return (ids + by) % size


class TimestampRules(WhisperTimeStampLogitsProcessor):
    """Whisper's rules for timestamps where the last `added` tokens are text."""

    def __init__(self, generation_config: Any, begin_index: int, added: int) -> None:
        super().__init__(generation_config, begin_index)
        self.added = added
        self.timestamp_begin += added
        self.no_timestamps_token_id += added
        self.eos_token_id += added

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        ids = moved(input_ids, self.added, scores.shape[-1])
        return super().__call__(ids, scores.roll(self.added, -1)).roll(-self.added, -1)
