"""What is done to the samples of training examples."""

import random
from itertools import islice

import numpy as np
import pytest
import torch

from echo.config import (
    AugmentSettings,
    CodecSettings,
    DataSettings,
    NoiseSettings,
    ReverbSettings,
)
from echo.data.audio import AudioFile
from echo.data.augment import WaveformAugment, over_telephone, reverberate
from echo.data.batching import EpochBatches, Position
from echo.data.examples import ExampleReader
from echo.data.loading import training_loader
from echo.data.tokenizer import train_tokenizer
from echo.data.utterance import FixedCorpus, Utterance
from echo.model.geometry import Limits
from echo.support.errors import ConfigError, DataError
from tests.data.recordings import tone, write

RATE = 16_000
BEGINNING = Position()


def noise(seconds, seed):
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    """An impulse response whose direct sound comes after 20 ms, and its echo 50 ms later."""
    folder = tmp_path_factory.mktemp("rooms")
    response = np.zeros(RATE // 2)
    response[320], response[320 + 800] = 0.5, -0.25
    write(folder / "room.wav", response)
    return folder


@pytest.fixture(scope="module")
def noises(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noises")
    for seed in (1, 2):
        write(folder / f"{seed}.wav", noise(3, seed))
    return folder


def test_reverberation_keeps_onset_power_and_length(rooms):
    samples = torch.cat([torch.zeros(1000), torch.randn(8000)])
    found = reverberate(samples, rooms / "room.wav").numpy()
    wanted = samples.numpy().copy()
    wanted[800:] -= 0.5 * samples.numpy()[:-800]
    wanted *= np.sqrt((samples.numpy() ** 2).sum() / (wanted**2).sum())
    np.testing.assert_allclose(found, wanted, atol=1e-3)  # the file has 16 bits
    assert not reverberate(torch.zeros(1000), rooms / "room.wav").any()


def test_what_is_no_impulse_response_is_one_sentence(tmp_path):
    long = write(tmp_path / "long.wav", noise(11, 1))
    with pytest.raises(DataError, match=r"long\.wav: is longer than 10 s"):
        reverberate(torch.ones(10), long)
    silent = write(tmp_path / "silent.wav", np.zeros(100))
    with pytest.raises(DataError, match=r"silent\.wav: is digital silence"):
        reverberate(torch.ones(10), silent)


@pytest.mark.parametrize("codec", ["mu-law", "a-law", "gsm"])
def test_a_telephone_keeps_speech_in_its_band_and_place(codec):
    time = np.arange(RATE) / RATE
    low, high = (0.3 * np.sin(2 * np.pi * f * time) for f in (440, 6000))
    envelope = np.exp(-(((time - 0.3) / 0.1) ** 2))
    found = over_telephone(torch.tensor(envelope * (low + high), dtype=torch.float32), codec)
    assert len(found) == RATE
    error = found.numpy() - envelope * low
    assert 10 * np.log10((error**2).mean() / ((envelope * low) ** 2).mean()) < -20
    spectrum = np.abs(np.fft.rfft(found.numpy())) ** 2
    assert spectrum[4100:].sum() < 1e-3 * spectrum.sum()


def test_mu_law_has_the_levels_of_g711():
    """Against the standard's table, decoded here by its definition."""
    levels = []
    for code in range(256):
        value = ~code & 0xFF
        magnitude = (((value & 0x0F) << 3) + 0x84 << ((value & 0x70) >> 4)) - 0x84
        levels.append(-magnitude if value & 0x80 else magnitude)
    constant = torch.full((RATE,), 0.3)
    found = over_telephone(constant, "mu-law")[RATE // 2] * 32768
    nearest = min(levels, key=lambda level: abs(level - 0.3 * 32768))
    assert found.item() == pytest.approx(nearest, rel=2e-3)  # resampling ripples


def test_gain_is_drawn_evenly_from_its_range():
    augment = WaveformAugment(AugmentSettings(gain=[-6.0, 10.0]))
    samples = torch.full((10,), 0.25)
    drawn = [augment(samples, random.Random(f"{i}"))[0].item() / 0.25 for i in range(300)]
    found = 20 * np.log10(drawn)
    assert -6 <= found.min() < -5
    assert 9 < found.max() <= 10
    assert abs(found.mean() - 2) < 1


def test_noise_is_added_as_often_and_as_loud_as_told(noises):
    settings = NoiseSettings(str(noises), probability=0.25, snr=[3.0, 9.0])
    augment = WaveformAugment(AugmentSettings(noise=settings))
    speech = torch.from_numpy(tone(0.2)[:, 0]).float()
    found = []
    for i in range(400):
        added = (augment(speech, random.Random(f"{i}")) - speech).numpy()
        if added.any():
            found.append(10 * np.log10((speech.numpy() ** 2).mean() / (added**2).mean()))
    assert 70 < len(found) < 130
    assert 2.9 < min(found) < 3.6
    assert 8.4 < max(found) < 9.1


def test_nothing_is_drawn_unless_told():
    samples = torch.randn(100)
    assert WaveformAugment(AugmentSettings())(samples, random.Random(1)) is samples


def test_a_missing_folder_names_its_setting(tmp_path):
    for kind, settings in (("noise", NoiseSettings), ("reverb", ReverbSettings)):
        with pytest.raises(ConfigError, match=rf"^data\.augment\.{kind}\.folder: .*: no such"):
            WaveformAugment(AugmentSettings(**{kind: settings(str(tmp_path / "none"))}))


def test_the_same_bits_with_any_workers_and_from_any_position(tmp_path, noises, rooms):
    utterances = [
        Utterance(f"u{i}", AudioFile(write(tmp_path / f"{i}.wav", noise(1 + i / 8, i))), "one", 1.5)
        for i in range(6)
    ]
    augment = AugmentSettings(
        speed=[1.0],
        noise=NoiseSettings(str(noises), 0.7),
        reverb=ReverbSettings(str(rooms), 0.7),
        gain=[-6, 6],
        codec=CodecSettings(0.7),
    )
    reader = ExampleReader(train_tokenizer(["one"]), Limits(80, 300, 12))

    def examples(workers, start=BEGINNING, threads=1):
        """By utterance, the features of two epochs."""
        torch.set_num_threads(threads)
        corpus = FixedCorpus(utterances, [])
        data = DataSettings(workers=workers, augment=augment)
        sampler = EpochBatches(corpus, 1, 4, 2, augment.speed, start)
        batches = iter(training_loader(corpus, sampler, reader, data, 1))
        found = {}
        for batch in islice(batches, 6):
            for row, u, mask in zip(
                batch.input_features, batch.utterances, batch.attention_mask, strict=True
            ):
                found.setdefault(u.id, []).append(row[:, mask.bool()])
        return found

    alone = examples(0)
    assert not any(torch.equal(first, second) for first, second in alone.values())
    for other in (examples(2), examples(0, threads=2)):
        assert all(
            torch.equal(a, b) for u in alone for a, b in zip(alone[u], other[u], strict=True)
        )
    torch.set_num_threads(1)
    resumed = examples(0, Position(epoch=1))
    assert all(torch.equal(resumed[u][0], alone[u][1]) for u in alone)
