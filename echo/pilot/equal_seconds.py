"""Which of two models is ahead after the same seconds of training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Events = Sequence[Mapping[str, Any]]  # of a run's `metrics.jsonl`


def at_equal_seconds(events: Events, baseline: Events) -> list[dict[str, Any]]:
    """One run's evaluations during training, each with the baseline's WER after the same seconds.

    The baseline's WER is interpolated linearly between two evaluations, and constant after its
    last. Evaluations before its first are left out, and those before training.
    """
    own, other = (
        [event for event in each if event["kind"] == "eval" and event["step"] > 0]
        for each in (events, baseline)
    )
    seconds, wers = [e["seconds"] for e in other], [e["wer"] for e in other]
    return [
        {
            **{key: event[key] for key in ("step", "seconds", "wer")},
            "baseline_wer": float(np.interp(event["seconds"], seconds, wers)),
        }
        for event in own
        if other and event["seconds"] >= seconds[0]
    ]


def count_ahead(evaluations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """At how many of the evaluations a model was ahead, and after how many seconds at all of them;
    None if it was not ahead at the last."""
    behind = [e["seconds"] for e in evaluations if e["wer"] >= e["baseline_wer"]]
    last = max((e["seconds"] for e in evaluations), default=0.0)
    since = max(behind, default=0.0)
    return {
        "evaluations": len(evaluations),
        "ahead": len(evaluations) - len(behind),
        "ahead_after_seconds": since if since < last else None,
    }
