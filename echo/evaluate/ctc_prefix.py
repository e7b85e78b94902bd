"""Joint CTC/attention decoding: CTC prefix scores are mixed into the decoder's scores.

Each candidate token's score is interpolated with a CTC probability: that the transcript begins
with the text so far plus that token (Hori, Watanabe, Hershey 2017, "Joint CTC/attention decoding
for end-to-end speech recognition"). The recurrences over frames are cumulative sums in the log
domain, so a step costs a few tensor operations and no loop over time.
"""

from dataclasses import dataclass

import torch
from transformers import LogitsProcessor

IMPOSSIBLE = -1e10  # the log of 0, finite so that differences stay numbers


@dataclass
class PrefixState:
    """Log probabilities that a prefix is complete after t = 0..T frames, by the last symbol."""

    token: torch.Tensor  # (N, T + 1): the last symbol is the prefix's last token
    blank: torch.Tensor  # (N, T + 1): the last symbol is a blank
    last: torch.Tensor  # (N,): the prefix's last token


class CtcPrefixScorer(LogitsProcessor):
    """Adds CTC prefix scores to the decoder's.

    Args:
        logits: (B, T, V), output of the CTC head.
        lengths: (B,), valid frames.
        weight: weight of the CTC scores, between 0 and 1.
        blank, end: ids of the CTC blank and of the end-of-text token.
        special_ids: ids of tokens that are not text. CTC never emits them.
    """

    def __init__(
        self,
        logits: torch.Tensor,
        lengths: torch.Tensor,
        weight: float,
        blank: int,
        end: int,
        special_ids: torch.Tensor,
    ) -> None:
        log = logits.float().log_softmax(-1)
        # Past the end of an utterance only blank is possible.
        padding = torch.arange(log.shape[1], device=log.device) >= lengths[:, None]
        log = log.masked_fill(padding[..., None], IMPOSSIBLE)
        log[..., blank] = log[..., blank].masked_fill(padding, 0.0)
        self.log = log
        self.weight = weight
        self.blank, self.end = blank, end
        self.special_ids = special_ids
        self.ids: torch.Tensor | None = None
        self.state: PrefixState | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if len(self.log) < len(input_ids):  # beams
            self.log = self.log.repeat_interleave(len(input_ids) // len(self.log), dim=0)
        state = self.advance(input_ids)
        ctc = self.candidates(state)
        return (1 - self.weight) * scores.log_softmax(-1) + self.weight * ctc

    def advance(self, input_ids: torch.Tensor) -> PrefixState:
        """Returns the state of (N, tokens) prefixes. Their first token is the decoder's start
        token."""
        state, ids = self.state, self.ids
        done = input_ids.shape[1] - 1
        # If beams were reordered, score them again from the start.
        if state is None or ids is None or not torch.equal(ids, input_ids[:, :-1]):
            state, done = self.start(), 1
        for token in input_ids[:, done:].unbind(1):
            state = self.extend(state, token)
        self.state, self.ids = state, input_ids.clone()
        return state

    def start(self) -> PrefixState:
        """Returns the state of the empty prefix: only blanks so far."""
        blank = torch.nn.functional.pad(self.log[..., self.blank].cumsum(1), (1, 0))
        last = torch.full((len(blank),), -1, device=blank.device)
        return PrefixState(torch.full_like(blank, IMPOSSIBLE), blank, last)

    def before(self, state: PrefixState, repeats: torch.Tensor) -> torch.Tensor:
        """Returns the log probabilities from which the next token can start. A token that
        `repeats` the last one needs a blank in between."""
        either = torch.logaddexp(state.token, state.blank)
        return torch.where(repeats, state.blank, either)

    def extend(self, state: PrefixState, token: torch.Tensor) -> PrefixState:
        """Extends each prefix by one token (N,)."""
        p = self.log.gather(2, token[:, None, None].expand(-1, self.log.shape[1], 1))[..., 0]
        new_token = accumulate(self.before(state, (token == state.last)[:, None]), p)
        new_blank = accumulate(new_token, self.log[..., self.blank])
        return PrefixState(new_token, new_blank, token)

    def candidates(self, state: PrefixState) -> torch.Tensor:
        """(N, V): for each candidate token, the log probability that the CTC transcript begins
        with the prefix plus that token. For the end token: that the transcript is the prefix."""
        either = self.before(state, torch.zeros_like(state.last, dtype=torch.bool)[:, None])
        scores = torch.logsumexp(either[:, :-1, None] + self.log, dim=1)
        repeated = state.last.clamp(min=0)[:, None]
        p = self.log.gather(2, repeated[:, None].expand(-1, self.log.shape[1], 1))[..., 0]
        again = torch.logsumexp(state.blank[:, :-1] + p, dim=1, keepdim=True)
        has_last = (state.last >= 0)[:, None]
        scores = scores.scatter(
            1, repeated, torch.where(has_last, again, scores.gather(1, repeated))
        )
        scores[:, self.special_ids] = IMPOSSIBLE
        scores[:, self.end] = torch.logaddexp(state.token[:, -1], state.blank[:, -1])
        return scores


def accumulate(source: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Computes x_t = log(exp x_{t-1} + exp source_{t-1}) + p_t, where x_0 is impossible, from
    `source` (N, T + 1) and `p` (N, T)."""
    total = torch.nn.functional.pad(p.cumsum(1), (1, 0))
    inside = total[:, 1:] + torch.logcumsumexp(source[:, :-1] - total[:, :-1], dim=1)
    return torch.nn.functional.pad(inside.clamp(min=IMPOSSIBLE), (1, 0), value=IMPOSSIBLE)
