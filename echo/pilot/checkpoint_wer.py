"""The word error rate of a pilot's run, with its interval, for the card of an exported model."""

from pathlib import Path

import numpy as np

from echo.checkpoints.export.card import MeasuredWer, training_wer
from echo.checkpoints.run import read_progress
from echo.evaluate.differences import resampling_units
from echo.evaluate.statistics import interval, resampled_rates
from echo.pilot.measure import DECODER, is_measured, read_heard, read_measured


def measured_wer(checkpoint: Path) -> list[MeasuredWer]:
    """Returns what a pilot measured of a run's checkpoint, decoded without a CTC head. If it
    measured another checkpoint, or none, what training measured; empty for a model of no run."""
    run = checkpoint.parent.parent
    progress = read_progress(checkpoint)
    measured = progress is not None and is_measured(run)
    if progress is None or not measured or read_measured(run)["steps"] != progress.step:
        return training_wer(checkpoint)
    heard = list(read_heard(run, DECODER).values())
    _, units = resampling_units(heard)
    errors = np.array([utterance.errors for utterance in heard])
    words = np.array([utterance.words for utterance in heard])
    drawn = resampled_rates(errors[None], words, units)[0]
    found = interval(drawn) if len(set(units)) > 1 else None
    rate = float(errors.sum() / words.sum())  # YAML writes no numbers of numpy
    return [MeasuredWer("WER", rate, str(len(heard)), found)]
