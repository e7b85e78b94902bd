"""What a data set holds, in brief, by which it is known again."""

import hashlib
from collections.abc import Iterable
from typing import Any

from echo.data.columns import cells
from echo.data.utterance import Utterance


def describe(utterances: Iterable[Utterance]) -> dict[str, Any]:
    """Counts `utterances`, `seconds` of audio and `speakers` (None where none is named), and gives
    a `fingerprint`: the same for the same ids, transcripts, durations, starts of slices and
    channels in any order."""
    digests, speakers, seconds = [], set(), 0.0
    for name, text, duration, speaker, start, channel in cells(
        utterances, "id", "text", "duration", "speaker", "start", "channel"
    ):
        seconds += duration
        speakers.add(speaker)
        told: tuple[Any, ...] = name, text, round(duration, 3)
        if start is not None:
            told += (round(start, 3),)
        if channel is not None:
            told += ("channel", channel)
        digests.append(hashlib.sha256(repr(told).encode(errors="surrogatepass")).digest())
    return {
        "utterances": len(digests),
        "seconds": seconds,
        "speakers": len(speakers - {None}) or None,
        "fingerprint": hashlib.sha256(b"".join(sorted(digests))).hexdigest()[:16],
    }


def ordered_fingerprint(utterances: Iterable[Utterance]) -> str:
    """Returns a fingerprint of all that training takes from rows, besides the audio, and of their
    order."""
    digest = hashlib.sha256()
    for name, text, duration, *others in cells(
        utterances, "id", "text", "duration", "speaker", "language", "task"
    ):
        told = repr((name, text, round(duration, 3), *others))
        digest.update(told.encode(errors="surrogatepass"))
    return digest.hexdigest()[:16]
