"""When each token and word was said, by CTC's best alignment."""

from typing import Any

import torch
import torchaudio

from echo.model.geometry import ENCODER_FRAME_SECONDS

WordTimes = list[tuple[float, float]]  # of each word of a transcript its start and end, in seconds

SPACE = "Ġ"  # how tokens write a space


def best_path(
    log_probs: torch.Tensor, tokens: torch.Tensor, blank: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """Where CTC's best alignment hears a text.

    Args:
        log_probs: (T, V), of one utterance's valid frames, on the CPU.
        tokens: (N,), the text, without special tokens, on the CPU.
        blank: CTC's blank token.

    Returns:
        Of each frame in which a token is heard: the frame, the token's place in the text and its
        log probability, each (spoken frames,). None where the text is empty or too long for its
        frames, or a log probability is not finite, of which the aligner reads stray memory.
    """
    repeated = int((tokens[1:] == tokens[:-1]).sum())
    if not 0 < len(tokens) + repeated <= len(log_probs) or not log_probs.isfinite().all():
        return None
    aligned = torchaudio.functional.forced_align(log_probs[None], tokens[None], blank=blank)
    path, scores = (x[0] for x in aligned)
    spoken = path != blank
    begins = spoken & (path != torch.nn.functional.pad(path[:-1], (1, 0), value=blank))
    return spoken.nonzero()[:, 0], begins.cumsum(0)[spoken] - 1, scores[spoken]


def word_times(
    log_probs: torch.Tensor, tokens: torch.Tensor, tokenizer: Any, blank: int
) -> WordTimes | None:
    """The times of a text's words, which spaces separate; None where `best_path` has none."""
    path = best_path(log_probs, tokens, blank)
    if path is None:
        return None
    frames, places, _ = path
    times = []
    for word in words(tokenizer.convert_ids_to_tokens(tokens.tolist())):
        own = frames[torch.isin(places, torch.tensor(word))]
        start, end = (round(int(t) * ENCODER_FRAME_SECONDS, 2) for t in (own[0], own[-1] + 1))
        times.append((start, end))
    return times


def words(tokens: list[str]) -> list[list[int]]:
    """The places of each word's tokens. Tokens that are only spaces belong to no word."""
    found: list[list[int]] = []
    ended = True
    for place, token in enumerate(tokens):
        ended = ended or token.startswith(SPACE)
        if token.strip(SPACE):
            if ended:
                found.append([])
            found[-1].append(place)
            ended = token.endswith(SPACE)
    return found
