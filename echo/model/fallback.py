"""Stops decoding that does not end by itself, because it repeats itself or writes more than anyone
can say in the time, and judges the text of a segment: whether to decode it again, or to drop it
because nobody speaks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import StoppingCriteria
from transformers.models.whisper.generation_whisper import WhisperGenerationMixin

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


@dataclass(frozen=True)
class Decoded:
    """A row of a segment, decoded at one temperature."""

    tokens: torch.Tensor  # (length,), without padding and end token
    output: Any  # what transformers' `generate` returns: a tensor, or a mapping with the scores
    temperature: float | None
    compression: float  # of the token ids, as transformers measures it
    runaway: bool  # was stopped, because it did not end by itself
    # (length,), of the tokens and the end token, up to where decoding was stopped. None if the
    # output has no scores.
    logprobs: torch.Tensor | None

    @property
    def avg_logprob(self) -> float | None:
        return None if self.logprobs is None else float(self.logprobs.mean())

    def needs_fallback(self, config: Any) -> bool:
        """Returns whether to decode again at the next temperature, by the thresholds of a
        generation config."""
        most = config.compression_ratio_threshold
        repeats_itself = most is not None and self.compression > most
        return self.runaway or repeats_itself or self.is_improbable(config.logprob_threshold)

    def nobody_speaks(self, no_speech: float | None, config: Any) -> bool:
        """Returns whether to drop the text, by the thresholds of a generation config and the
        probability that nobody speaks, if it was measured.

        On silence and music a model says "Thank you" with a confidence above Whisper's threshold.
        On speech between them it is more confident still, so half the threshold is the limit."""
        if no_speech is None or no_speech <= config.no_speech_threshold:
            return False
        return self.is_improbable(config.logprob_threshold / 2)

    def is_improbable(self, threshold: float | None) -> bool:
        mean = self.avg_logprob
        return threshold is not None and mean is not None and mean < threshold


def read_row(
    row: int,
    tokens: torch.Tensor,
    output: Any,
    config: Any,
    temperature: float | None,
    runaway: StopRunaway | None,
    vocabulary: int,
) -> Decoded:
    """Reads row `row`, among those that `runaway` watched, of what transformers' `generate`
    returned: its generated tokens (length,), with padding, and its part of the output. `config` is
    the generation config of this call."""
    if tokens[-1] == config.pad_token_id:
        padding = int((tokens == config.pad_token_id).sum())
        if config.pad_token_id == config.eos_token_id:
            padding -= 1  # the end token counts in the mean probability
        tokens = tokens[: len(tokens) - padding]
    stopped = runaway and runaway.stopped_at(row, tokens[tokens != config.eos_token_id])
    # After a stop, the rest is padding up to the length of the batch's longest row.
    judged = tokens[:stopped] if stopped else tokens
    scores = output.get("scores") if isinstance(output, dict) else None
    return Decoded(
        tokens[:-1] if tokens[-1] == config.eos_token_id else tokens,
        output,
        temperature,
        WhisperGenerationMixin._retrieve_compression_ratio(judged, vocabulary),
        stopped is not None,
        token_logprobs(scores, judged, temperature) if scores else None,
    )


def token_logprobs(
    scores: Sequence[torch.Tensor], tokens: torch.Tensor, temperature: float | None
) -> torch.Tensor:
    """Returns the log probabilities (length,) of generated tokens (length,), with the sampling
    temperature undone."""
    scaled = torch.stack(list(scores[: len(tokens)])).float() * (temperature or 1.0)
    chosen = tokens[: len(scaled)].to(scaled.device)
    return scaled.log_softmax(-1).gather(-1, chosen[:, None])[:, 0]
