"""Telling what can be speech from what cannot, and cutting where it is quiet."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch

from echo.data.audio import AudioFile
from echo.data.voice import has_voice, loudness, split_at_quiet, trim, voiced
from echo.model.geometry import SAMPLE_RATE

T = np.arange(5 * SAMPLE_RATE) / SAMPLE_RATE
NOISE = np.random.default_rng(0).standard_normal(len(T))
STEADY = {
    "digital silence": np.zeros(len(T)),
    "the last bit": np.sign(NOISE) / 2**15,
    "hiss": 0.1 * NOISE,
    "loud hiss": 0.5 * NOISE,
    "hum": 0.3 * np.sin(2 * np.pi * 50 * T) + 0.001 * NOISE,
    "a tone": 0.5 * np.sin(2 * np.pi * 440 * T),
    "rumble": 0.01 * np.cumsum(NOISE) / np.sqrt(len(T)),
    "one sample": np.zeros(1),
}


@pytest.mark.parametrize("wave", STEADY.values(), ids=STEADY.keys())
def test_silence_and_steady_noise_are_no_voice(wave):
    assert not has_voice(torch.tensor(wave, dtype=torch.float32))


def test_speech_is_voice_even_when_faint_or_in_noise(shared):
    digits = sorted((shared / "data/fsdd/recordings").glob("*_0.wav"))
    folder = shared / "data/librispeech"
    lines = (folder / "dev.jsonl").read_text().splitlines()[:20]
    for path in [*digits, *(folder / json.loads(line)["audio_filepath"] for line in lines)]:
        samples = AudioFile(path).load()
        power = samples.square().mean().sqrt()
        assert has_voice(samples), path
        assert has_voice(samples * 10**-1.0), path  # 20 dB fainter
        assert has_voice(samples + 0.5 * power * torch.randn(len(samples))), path


def test_loudness_is_in_decibels_of_a_sine_at_full_scale():
    tone = torch.tensor(np.sin(2 * np.pi * 1000 * T), dtype=torch.float32)
    levels = loudness(tone)
    assert len(levels) == 1 + (len(tone) - 800) // 160
    torch.testing.assert_close(levels, torch.zeros_like(levels), rtol=0, atol=0.1)
    assert torch.allclose(loudness(tone / 10), levels - 20, atol=0.1)


@pytest.mark.parametrize("longest", [16_000, 48_000, 100_000])
def test_pieces_are_all_of_it_and_short_enough(longest):
    samples = torch.randn(200_000)
    pieces = split_at_quiet(samples, longest)
    assert pieces[0][0] == 0
    assert pieces[-1][1] == len(samples)
    assert all(end == begin for (_, end), (begin, _) in pairwise(pieces))
    assert all(0 < end - begin <= longest for begin, end in pieces)


def test_a_recording_is_cut_in_its_pauses():
    samples = torch.randn(10 * SAMPLE_RATE)
    for second in (3, 5.5):
        samples[int(second * SAMPLE_RATE) : int((second + 0.4) * SAMPLE_RATE)] *= 0.01
    pieces = split_at_quiet(samples, 4 * SAMPLE_RATE)
    cuts = [end / SAMPLE_RATE for _, end in pieces[:2]]
    assert cuts == [pytest.approx(3.2, abs=0.1), pytest.approx(5.7, abs=0.1)]


def test_what_is_short_stays_whole():
    assert split_at_quiet(torch.randn(100), 100) == [(0, 100)]


def test_silence_about_a_stretch_is_cut_off():
    samples = 0.001 * torch.randn(4 * SAMPLE_RATE)
    samples[SAMPLE_RATE : 2 * SAMPLE_RATE] *= 300
    voice = voiced(samples)
    assert trim(0.5, 3.0, voice) == (pytest.approx(1, abs=0.05), pytest.approx(2, abs=0.05))
    assert trim(1.25, 1.75, voice) == (1.25, 1.75)
    assert trim(2.5, 3.5, voice) == (2.5, 3.5)  # there is nothing that it could be cut to
