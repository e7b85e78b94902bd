"""Where long recordings are cut."""

from itertools import islice

import numpy as np
import pytest

from echo.data.voice import loudness, voiced
from echo.model.geometry import SAMPLE_RATE
from echo.transcribe.align.recording import LongRecording
from tests.data.recordings import write


@pytest.mark.parametrize("longest", [0.5, 0.9, 2.0])
def test_pieces_are_no_longer_than_asked_and_leave_nothing_out(tmp_path, longest):
    """Also where the only pause is before a piece."""
    samples = 0.3 * np.random.default_rng(0).standard_normal(5 * SAMPLE_RATE)
    samples[: SAMPLE_RATE // 2] = 0
    write(tmp_path / "a.wav", samples)
    recording = LongRecording(tmp_path / "a.wav", voiced)
    heard = [*islice(recording.pieces(longest), 100)]
    for pieces in (heard, recording.split(0.0, recording.seconds, longest)):
        starts, ends = zip(*pieces, strict=True)
        assert (starts[0], ends[-1]) == (0.0, recording.seconds)
        assert starts[1:] == ends[:-1]
        assert all(0 < end - start <= longest + 1e-9 for start, end in pieces)


def test_what_tells_speech_from_other_sounds_tells_where_the_voice_is(tmp_path):
    """Wherever it is listened to, and whatever the energy says."""
    noise = np.random.default_rng(0).standard_normal(4 * SAMPLE_RATE)
    noise[SAMPLE_RATE : 2 * SAMPLE_RATE] *= 1.5
    write(tmp_path / "a.wav", 0.1 * noise)

    def louder(samples):
        return loudness(samples) > loudness(samples).mean() + 0.5

    recording = LongRecording(tmp_path / "a.wav", louder)
    recording.listen(0.5, 2.5)
    assert recording.voiced_seconds(1.1, 1.9) == pytest.approx(0.8, abs=0.15)
    assert recording.voiced_seconds(2.1, 4.0) < 0.2
