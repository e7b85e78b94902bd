"""The word error rate of a pilot's run, with its interval, for the card of an exported model."""

from pathlib import Path

import numpy as np

from echo.checkpoints.export.card import MeasuredWer, training_wer
from echo.checkpoints.run import read_progress
from echo.evaluate.decodings import DECODER
from echo.evaluate.lines import word_errors
from echo.evaluate.statistics import bootstrap, resampling_units
from echo.pilot.measure import is_measured, read_heard, read_measured


def measured_wer(checkpoint: Path) -> list[MeasuredWer]:
    """Returns what a pilot measured of a run's checkpoint, decoded without a CTC head. If it
    measured another checkpoint, or none, what training measured; empty for a model of no run."""
    run = checkpoint.parent.parent
    progress = read_progress(checkpoint)
    measured = progress is not None and is_measured(run)
    if progress is None or not measured or read_measured(run)["steps"] != progress.step:
        return training_wer(checkpoint)
    heard = list(read_heard(run, DECODER).values())
    _, units = resampling_units([line["speaker"] for line in heard])
    errors = np.array([[word_errors(line) for line in heard]])
    [found], _ = bootstrap(errors, np.array([line["wer"]["reference"] for line in heard]), units)
    return [MeasuredWer("WER", found.value, str(len(heard)), found.interval)]
