"""Noise from a folder, and speech mixed with it."""

import random

import numpy as np
import pytest
import torch

from echo.data.audio import AudioArray
from echo.data.noise import AudioFolder, NoisyAudio
from echo.support.errors import ConfigError, DataError
from tests.data.recordings import tone, write

RATE = 16_000


def noise_of(seconds, seed, rate=RATE):
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Noises of another rate, with two channels, and shorter than the speech."""
    path = tmp_path_factory.mktemp("noises")
    write(path / "a.wav", noise_of(5, 1))
    write(path / "deeper" / "b.flac", noise_of(5, 2, 44_100), 44_100)
    write(path / "c.wav", noise_of(0.3, 3).repeat(2).reshape(-1, 2))
    (path / "read me.txt").write_text("no noise")
    return path


def decibels(signal, noise):
    """The ratio of two powers, by numpy alone."""
    return 10 * np.log10((np.float64(signal) ** 2).mean() / (np.float64(noise) ** 2).mean())


@pytest.mark.parametrize("snr", [-5.0, 0.0, 12.3, 40.0])
def test_the_snr_over_the_whole_utterance_is_the_one_asked_for(folder, snr):
    speech = np.concatenate([tone(1)[:, 0], np.zeros(RATE)]).astype(np.float32)  # half a pause
    noises = AudioFolder.at(folder, "--noise")
    assert [path.name for path in noises.paths] == ["a.wav", "c.wav", "b.flac"]
    for seed in "abcdef":
        noisy = NoisyAudio(AudioArray(speech, RATE, "x"), noises, snr, seed).load().numpy()
        assert decibels(speech, noisy - speech) == pytest.approx(snr, abs=0.1)
        # What is added is the noise that is heard alone, but for its level, to the end.
        alone = NoisyAudio(AudioArray(speech, RATE, "x"), noises, None, seed).load().numpy()
        assert np.corrcoef(alone, noisy - speech)[0, 1] > 0.999
        assert (noisy - speech)[-1600:].std() > 0


def test_a_stretch_is_a_part_of_its_recording_at_any_place(folder):
    noises = AudioFolder((folder / "a.wav",))
    whole = AudioFolder((folder / "a.wav",)).stretch(5 * RATE, random.Random(1)).numpy()
    starts = set()
    for seed in range(20):
        part = noises.stretch(100, random.Random(seed)).numpy()
        start = int(np.correlate(whole, part).argmax())
        assert np.array_equal(whole[start : start + 100], part)
        starts.add(start)
    assert len(starts) == 20
    assert max(starts) - min(starts) > 2 * RATE


def test_a_short_noise_goes_round(folder):
    found = AudioFolder((folder / "c.wav",)).stretch(RATE, random.Random(1))
    period = round(0.3 * RATE)
    assert torch.equal(found[:-period], found[period:])


def test_only_the_stretch_is_decoded(tmp_path, monkeypatch):
    """A recording of hours takes no more memory than the utterance."""
    import soundfile

    path = write(tmp_path / "long.wav", noise_of(60, 1))
    counts = []
    read = soundfile.SoundFile.read
    monkeypatch.setattr(
        soundfile.SoundFile,
        "read",
        lambda self, frames, **rest: counts.append(frames) or read(self, frames, **rest),
    )
    AudioFolder((path,)).stretch(RATE, random.Random(1))
    assert counts == [RATE]


def test_the_same_noise_wherever_the_folder_lies(folder, tmp_path):
    import shutil

    shutil.copytree(folder, tmp_path / "other")
    one, other = (AudioFolder.at(p, "--noise") for p in (folder, tmp_path / "other"))
    for seed in range(6):
        assert torch.equal(
            one.stretch(RATE, random.Random(seed)), other.stretch(RATE, random.Random(seed))
        )


def test_what_is_no_noise_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"^data\.augment: .*none: no such folder$"):
        AudioFolder.at(tmp_path / "none", "data.augment")
    (tmp_path / "a.txt").touch()
    with pytest.raises(ConfigError, match=r"^--noise: .* holds no recordings \(\.flac, "):
        AudioFolder.at(tmp_path, "--noise")
    silent = write(tmp_path / "silent.wav", np.zeros(RATE))
    with pytest.raises(DataError, match=r"silent\.wav: is digital silence"):
        AudioFolder((silent,)).stretch(100, random.Random(1))
    (tmp_path / "bad.wav").write_bytes(b"noise")
    with pytest.raises(DataError, match=r"bad\.wav: cannot be read as audio"):
        AudioFolder((tmp_path / "bad.wav",)).stretch(100, random.Random(1))


def test_files_of_other_formats_are_named(tmp_path, caplog):
    write(tmp_path / "a.wav")
    for name in ("b.wma", "c.AMR", "d.txt"):
        (tmp_path / name).touch()
    assert AudioFolder.at(tmp_path, "--noise").paths == (tmp_path / "a.wav",)
    [message] = caplog.messages
    assert message.startswith(f"--noise: 2 files are not used, as {tmp_path / 'b.wma'}: convert")


def test_a_silent_stretch_is_passed_over(tmp_path):
    """Recordings often begin and end with digital silence, to which no SNR can be had."""
    path = write(tmp_path / "half.wav", np.concatenate([np.zeros(RATE), noise_of(1, 1)]))
    for seed in range(20):
        assert AudioFolder((path,)).stretch(100, random.Random(seed)).any()
