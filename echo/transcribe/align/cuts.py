"""Where sentences that take too long are cut."""

import itertools
from collections.abc import Sequence

import torch


def split_long(times: Sequence[tuple[float, float]], longest: float) -> list[tuple[int, int]]:
    """Cuts words, by their start and end in seconds, at the longest pauses between them until no
    part takes longer; each part is from one word to before another."""
    if len(times) < 2 or times[-1][1] - times[0][0] <= longest:
        return [(0, len(times))]
    pauses = torch.tensor([b[0] - a[1] for a, b in itertools.pairwise(times)])
    # Of pauses that are as long, the one nearest to the middle.
    places = torch.arange(len(pauses))
    cut = 1 + int((pauses - 1e-3 * (places - len(pauses) / 2).abs()).argmax())
    rest = [(cut + a, cut + b) for a, b in split_long(times[cut:], longest)]
    return [*split_long(times[:cut], longest), *rest]
