"""Which of two models is ahead after the same seconds of training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Events = Sequence[Mapping[str, Any]]


def at_equal_seconds(events: Events, baseline: Events) -> list[dict[str, Any]]:
    """One run's evaluations during training, each with the baseline's WER after the same seconds.

    The baseline's WER is interpolated linearly between two evaluations, and constant after its
    last. Evaluations before its first are left out, and those before training.

    Args:
        events: the run's `metrics.jsonl`.
        baseline: the baseline's.

    Returns:
        For each evaluation `step`, `seconds`, `wer` and `baseline_wer`.
    """
    measured = [event for event in baseline if event["kind"] == "eval" and event["step"] > 0]
    seconds = [event["seconds"] for event in measured]
    return [
        {
            "step": event["step"],
            "seconds": event["seconds"],
            "wer": event["wer"],
            "baseline_wer": float(
                np.interp(event["seconds"], seconds, [event["wer"] for event in measured])
            ),
        }
        for event in events
        if event["kind"] == "eval"
        and event["step"] > 0
        and measured
        and event["seconds"] >= seconds[0]
    ]


def count_ahead(evaluations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """At how many of the evaluations a model was ahead, and after how many seconds at all of them;
    None if it was not ahead at the last."""
    ahead = [e["wer"] < e["baseline_wer"] for e in evaluations]
    behind = [e["seconds"] for e, is_ahead in zip(evaluations, ahead, strict=True) if not is_ahead]
    last = max((e["seconds"] for e in evaluations), default=0.0)
    since = max(behind, default=0.0)
    return {
        "evaluations": len(ahead),
        "ahead": sum(ahead),
        "ahead_after_seconds": since if since < last else None,
    }
