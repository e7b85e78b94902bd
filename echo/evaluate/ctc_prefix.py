"""Joint CTC/attention decoding: CTC prefix scores are mixed into the decoder's scores.

Each candidate token's score is interpolated with a CTC probability: that the transcript begins
with the text so far plus that token (Hori, Watanabe, Hershey 2017, "Joint CTC/attention decoding
for end-to-end speech recognition"). The recurrences over frames are cumulative sums in the log
domain, so a step costs a few tensor operations and no loop over time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import torch
from transformers import LogitsProcessor

CANDIDATES = 16  # of the decoder, whose text a head with other tokens scores
IMPOSSIBLE = -1e10  # the log of 0, finite so that differences stay numbers


@dataclass
class PrefixState:
    """Log probabilities that a prefix is complete after t = 0..T frames, by the last symbol."""

    token: torch.Tensor  # (N, T + 1): the last symbol is the prefix's last token
    blank: torch.Tensor  # (N, T + 1): the last symbol is a blank
    last: torch.Tensor  # (N,): the prefix's last token
    begins: torch.Tensor  # (N,): the transcript begins with the prefix


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
        state = self.advance(input_ids)
        # Given the text so far, because beams add up the scores of their tokens.
        ctc = self.candidates(state) - state.begins[:, None]
        return (1 - self.weight) * scores.log_softmax(-1) + self.weight * ctc

    def advance(self, input_ids: torch.Tensor) -> PrefixState:
        """Returns the state of (N, tokens) prefixes. Their first token is the decoder's start
        token."""
        if len(self.log) < len(input_ids):  # beams
            self.log = self.log.repeat_interleave(len(input_ids) // len(self.log), dim=0)
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
        return PrefixState(torch.full_like(blank, IMPOSSIBLE), blank, last, blank[:, 0])

    def before(self, state: PrefixState, repeats: torch.Tensor) -> torch.Tensor:
        """Returns the log probabilities from which the next token can start. A token that
        `repeats` the last one needs a blank in between."""
        either = torch.logaddexp(state.token, state.blank)
        return torch.where(repeats, state.blank, either)

    def extend(self, state: PrefixState, token: torch.Tensor) -> PrefixState:
        """Extends each prefix by one token (N,)."""
        return self.said(state, token, torch.arange(len(token), device=token.device))

    def said(self, state: PrefixState, token: torch.Tensor, rows: torch.Tensor) -> PrefixState:
        """Extends each prefix by one token (N,) of the head, heard in these rows (N,) of `log`."""
        p, blank = self.log[rows, :, token], self.log[rows, :, self.blank]
        before = self.before(state, (token == state.last)[:, None])
        new_token = accumulate(before, p)
        begins = torch.logsumexp(before[:, :-1] + p, dim=1)
        return PrefixState(new_token, accumulate(new_token, blank), token, begins)

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


class CtcTextScorer(CtcPrefixScorer):
    """Adds to the scores of the decoder's best tokens how well a CTC head with tokens of its own
    hears their text. A token without any that the head knows, such as a comma, changes nothing.

    Args:
        spell: returns the head's tokens of a decoder's token.
        end: the decoder's end-of-text token; all others are the head's.
    """

    def __init__(
        self,
        logits: torch.Tensor,
        lengths: torch.Tensor,
        weight: float,
        blank: int,
        end: int,
        spell: Callable[[int], Sequence[int]],
    ) -> None:
        super().__init__(logits, lengths, weight, blank, end, torch.tensor([]))
        self.spell = spell
        self.prompt = 0  # tokens before the text

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.prompt = self.prompt or input_ids.shape[1]
        state = self.advance(input_ids[:, self.prompt - 1 :])
        own = scores.log_softmax(-1)
        ids = own.topk(min(CANDIDATES, scores.shape[1])).indices
        ids[:, -1:] = torch.where((ids == self.end).any(1, keepdim=True), ids[:, -1:], self.end)
        heard = self.spelled(state, ids.flatten(), ids.shape[1]).begins.view(ids.shape)
        whole = torch.logaddexp(state.token[:, -1], state.blank[:, -1])[:, None]
        # Given the text so far, because beams add up the scores of their tokens.
        ctc = torch.where(ids == self.end, whole, heard) - state.begins[:, None]
        mixed = (1 - self.weight) * own.gather(1, ids) + self.weight * ctc
        return torch.full_like(scores, -torch.inf).scatter(1, ids, mixed)

    def extend(self, state: PrefixState, token: torch.Tensor) -> PrefixState:
        return self.spelled(state, token, 1)

    def spelled(self, state: PrefixState, token: torch.Tensor, times: int) -> PrefixState:
        """Extends each prefix by so many of the decoder's tokens (N * times,), each by itself."""
        rows = torch.arange(len(state.last), device=token.device).repeat_interleave(times)
        state = PrefixState(*(each[rows] for each in vars(state).values()))
        texts = [self.spell(int(each)) for each in token]
        for column in zip_longest(*texts, fillvalue=-1):
            heard = torch.tensor(column, device=token.device)
            longer = vars(self.said(state, heard.clamp(min=0), rows))
            goes_on = heard >= 0
            state = PrefixState(
                *(
                    torch.where(goes_on if each.ndim == 1 else goes_on[:, None], longer[name], each)
                    for name, each in vars(state).items()
                )
            )
        return state


def accumulate(source: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Computes x_t = log(exp x_{t-1} + exp source_{t-1}) + p_t, where x_0 is impossible, from
    `source` (N, T + 1) and `p` (N, T)."""
    total = torch.nn.functional.pad(p.cumsum(1), (1, 0))
    inside = total[:, 1:] + torch.logcumsumexp(source[:, :-1] - total[:, :-1], dim=1)
    return torch.nn.functional.pad(inside.clamp(min=IMPOSSIBLE), (1, 0), value=IMPOSSIBLE)
