"""When each token and word was said, by CTC's best alignment."""

from collections.abc import Sequence
from typing import Any

import torch
import torchaudio

from echo.data.tokenizer import text_ids
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


def word_times(log_probs: torch.Tensor, words: Sequence[str], tokenizer: Any) -> WordTimes | None:
    """Returns the times of words, each from its first frame to its last; of one that holds no
    character of the CTC head's, the time between its neighbours.

    Args:
        log_probs: (T, V), of one utterance's valid frames, on the CPU.
        words: with the spaces before them, which take no time.
        tokenizer: the head's, whose padding is its blank.

    Returns:
        The times, or None where `best_path` has none.
    """
    ids: list[int] = []
    owners: list[int] = []  # of each token the number of its word, or -1
    for number, word in enumerate(words):
        own = text_ids(tokenizer, word)
        ids += own
        tokens = tokenizer.convert_ids_to_tokens(own)
        owners += [number if token.strip(SPACE) else -1 for token in tokens]
    path = best_path(log_probs, torch.tensor(ids, dtype=torch.long), tokenizer.pad_token_id)
    if path is None:
        return None
    heard: dict[int, list[int]] = {}
    for frame, place in zip(path[0].tolist(), path[1].tolist(), strict=True):
        heard.setdefault(owners[place], []).append(frame)
    times = []
    end = 0
    for number in range(len(words)):
        after = [frames[0] for other, frames in heard.items() if other > number]
        frames = heard.get(number) or [end, min(after, default=end + 1) - 1]
        start, end = frames[0], max(frames[0], frames[-1] + 1)
        times.append((start, end))
    return [
        (round(start * ENCODER_FRAME_SECONDS, 2), round(end * ENCODER_FRAME_SECONDS, 2))
        for start, end in times
    ]
