"""Stops decoding that does not end by itself: it writes more than anyone can say in the time, or
it repeats itself."""

import math
from collections.abc import Sequence

import torch
from transformers import StoppingCriteria

# No language is spoken at more tokens per second, so decoding is stopped beyond this.
MAX_TOKENS_PER_SECOND = 30
MIN_TOKENS = 16
# A loop: this many tokens in a row that each equal the token one period earlier.
LOOP_TOKENS = 40
MAX_PERIOD = 16


def most_tokens(seconds: float) -> int:
    """Returns the most tokens that `seconds` of speech can have."""
    return MIN_TOKENS + math.ceil(MAX_TOKENS_PER_SECOND * seconds)


def loops(tokens: torch.Tensor) -> torch.Tensor:
    """Says for each row of tokens (B, length) whether it ends in a loop: (B,) of bool."""
    ends = tokens[:, -(LOOP_TOKENS + MAX_PERIOD) :]
    if ends.shape[1] <= LOOP_TOKENS:
        return tokens.new_zeros(len(tokens), dtype=torch.bool)
    windows = ends.unfold(1, LOOP_TOKENS, 1)
    return (windows[:, :-1] == windows[:, -1:]).all(2).any(1)


class StopRunaway(StoppingCriteria):
    """Stops runaway rows, or runaway beams of a row: those of more than `most` tokens after the
    `prompt`, and those that loop."""

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
        """Returns after how many of its tokens (length,) a row was stopped. None if it ended by
        itself. `tokens` must not contain the end token."""
        most = int(self.most[row])
        counts = range(1, min(len(tokens), most) + 1)
        return next((n for n in counts if n == most or loops(tokens[None, :n])), None)
