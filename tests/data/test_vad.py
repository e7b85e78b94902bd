"""What tells speech from other sounds."""

import builtins

import pytest
import torch

from echo.data.audio import AudioFile
from echo.data.vad import find_voice, silero
from echo.data.voice import voiced
from echo.model.geometry import SAMPLE_RATE
from echo.support.errors import ConfigError


def test_by_default_the_energy_tells():
    assert find_voice("energy") is voiced


@pytest.fixture
def by_silero():
    pytest.importorskip("silero_vad", reason="needs silero-vad, of the extra vad")
    return find_voice("silero")


@pytest.mark.parametrize("samples", [1, 799, 800, 801, 16_000, 48_321])
def test_both_say_it_of_the_same_windows(by_silero, samples):
    noise = torch.randn(samples)
    assert by_silero(noise).shape == voiced(noise).shape
    assert by_silero(noise).dtype == torch.bool


def test_speech_is_found_where_it_is_and_breath_is_none(by_silero, shared):
    """Breath rises and falls, so it is no silence to the energy."""
    speech = AudioFile(shared / "data/librispeech/dev/8226-274369-0000.opus").load()
    time = torch.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    breath = 0.03 * torch.sin(2 * torch.pi * 0.4 * time).clamp(min=0) * torch.randn(len(time))
    assert voiced(breath).any()
    assert not by_silero(breath).any()
    found = by_silero(torch.cat([breath, speech, breath])).float()
    in_speech = slice(300, 300 + len(speech) // 160)
    assert found[in_speech].mean() > 0.6
    assert found[: in_speech.start - 10].mean() == 0
    assert found[in_speech.stop + 60 :].mean() == 0


def test_loading_it_changes_no_threads(by_silero):
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        silero.cache_clear()
        find_voice("silero")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


def test_without_the_extra_a_sentence_says_how_to_get_it(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("silero"):
            raise ModuleNotFoundError("No module named 'silero_vad'")
        return real(name, *rest)

    silero.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"No module named .*: pip install 'echo-asr\[vad\]'"):
        find_voice("silero")
