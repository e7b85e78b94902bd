"""Stops decoding that does not end by itself: that goes on for longer than anyone can speak, or
that repeats itself."""

import math
from collections.abc import Sequence

import torch
from transformers import StoppingCriteria

# No language is spoken at more tokens a second, so a model that never ends is stopped here.
MAX_TOKENS_PER_SECOND = 30
MIN_TOKENS = 16
# A loop is so many tokens that are all as those one period before them.
LOOP_TOKENS = 40
MAX_PERIOD = 16


def most_tokens(seconds: float) -> int:
    """The most tokens that so much speech can have."""
    return MIN_TOKENS + math.ceil(MAX_TOKENS_PER_SECOND * seconds)


def loops(tokens: torch.Tensor) -> torch.Tensor:
    """Whether each row (B,) of tokens (B, length) ends in a loop."""
    ends = tokens[:, -(LOOP_TOKENS + MAX_PERIOD) :]
    if ends.shape[1] <= LOOP_TOKENS:
        return tokens.new_zeros(len(tokens), dtype=torch.bool)
    windows = ends.unfold(1, LOOP_TOKENS, 1)
    return (windows[:, :-1] == windows[:, -1:]).all(2).any(1)


class StopRunaway(StoppingCriteria):
    """Stops the rows, or the beams of a row, that run away.

    Args:
        most: how many tokens each row may have.
        prompt: how many tokens come before.
    """

    def __init__(self, most: Sequence[int], prompt: int) -> None:
        self.most = torch.tensor(most)
        self.prompt = prompt

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor | None, **_: object
    ) -> torch.Tensor:
        tokens = input_ids[:, self.prompt :]
        most = self.most.repeat_interleave(len(tokens) // len(self.most)).to(tokens.device)
        return (tokens.shape[1] >= most) | loops(tokens)

    def stopped_at(self, row: int, tokens: torch.Tensor) -> int | None:
        """At which of its tokens (length,), without the end, a row was stopped; None where it
        ended by itself."""
        most = int(self.most[row])
        counts = range(1, min(len(tokens), most) + 1)
        return next((n for n in counts if n == most or loops(tokens[None, :n])), None)
