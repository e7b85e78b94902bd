"""Says which utterances a result was made from."""

import hashlib
from collections.abc import Iterable
from typing import Any

from echo.data.utterance import Utterance


def describe(utterances: Iterable[Utterance]) -> dict[str, Any]:
    """Counts `utterances`, `seconds` of audio and `speakers` (None where none is named), and gives
    a `fingerprint`: the same for the same ids, transcripts and durations in any order."""
    digests, speakers, seconds = [], set(), 0.0
    for utterance in utterances:
        seconds += utterance.duration
        speakers.add(utterance.speaker)
        told = repr((utterance.id, utterance.text, round(utterance.duration, 3)))
        digests.append(hashlib.sha256(told.encode(errors="surrogatepass")).digest())
    return {
        "utterances": len(digests),
        "seconds": seconds,
        "speakers": len(speakers - {None}) or None,
        "fingerprint": hashlib.sha256(b"".join(sorted(digests))).hexdigest()[:16],
    }
