"""The table of utterances, as the page's script takes it, and which of them tell most."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from echo.evaluate.result import Line, Result, WerName

FIRST = 20  # utterances that tell most
VIEW_NAMES = {"wer": "as written", "wer_normalised": "normalised"}


def table(result: Result, links: Mapping[int, str]) -> dict[str, Any]:
    """What the script `utterances.js` shows, with links to recordings by the utterance's index."""
    return {
        "models": [{"name": m, "runs": result.runs_of(m)} for m in result.models],
        "seeds": [run.seed for run in result.runs],
        "baseline": result.models.index(result.baseline),
        "views": [VIEW_NAMES[view] for view in result.views],
        "rows": [
            {
                "id": line.id,
                "seconds": round(line.duration, 2),
                "speaker": line.speaker,
                "texts": [
                    {
                        "said": " ".join(line.alignments[view][0].reference),
                        "heard": [" ".join(a.hypothesis) for a in line.alignments[view]],
                        "kinds": [a.kinds for a in line.alignments[view]],
                        "starts": starts(line, view),
                    }
                    for view in result.views
                ],
                **({"link": links[i]} if i in links else {}),
            }
            for i, line in enumerate(result.lines)
        ],
        **telling(result),
    }


def starts(line: Line, view: WerName) -> list[Sequence[float] | None] | None:
    """When each word of each run's text begins; None where it is not known. A normalised text may
    have other words than the text that was timed."""
    found = [
        seconds if seconds and len(seconds) == len(alignment.hypothesis) else None
        for seconds, alignment in zip(line.starts, line.alignments[view], strict=True)
    ]
    return found if any(found) else None


def by_telling(result: Result) -> list[int]:
    """The indices of all utterances, those first that the page shows first."""
    first = [i for indices in telling(result).values() for i in indices]
    return [*dict.fromkeys([*first, *range(len(result.lines))])]


def telling(result: Result) -> dict[str, list[int]]:
    """The indices of the utterances that `changed` most from the baseline to any other model, and
    the `worst`, by errors of all models. At most 20 of each; none of those without errors."""
    errors = result.errors(result.view)
    base = result.models.index(result.baseline)
    by_model = errors.mean(1)
    changes = np.abs(by_model - by_model[base]).max(0)
    return {
        "changed": largest(changes) if len(result.models) > 1 else [],
        "worst": largest(by_model.mean(0)),
    }


def largest(values: np.ndarray) -> list[int]:
    """The indices of the largest values above 0, the first of equals first."""
    order = np.argsort(-values, kind="stable")[:FIRST]
    return [int(i) for i in order if values[i] > 0]
