"""Batches, and what becomes of utterances that cannot be read."""

import logging
import pickle
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from echo.config import AugmentSettings, DataSettings
from echo.data import audio, mixing
from echo.data.audio import AudioArray, AudioFile
from echo.data.batch import IGNORED
from echo.data.batching import EpochBatches, Position
from echo.data.cache import AudioCache, CachedAudio
from echo.data.examples import ExampleReader, check_utterances
from echo.data.loading import evaluation_batches, training_loader
from echo.data.tokenizer import train_tokenizer
from echo.data.utterance import FixedCorpus, Utterance
from echo.model.geometry import Limits
from echo.support.errors import DataError
from tests.data.recordings import write

LIMITS = Limits(n_mels=80, max_frames=300, max_tokens=12)


def utterance(name, seconds=1.0, text="one two"):
    samples = torch.randn(round(16_000 * seconds), generator=torch.Generator().manual_seed(1))
    return Utterance(name, AudioArray(samples.numpy(), 16_000, name), text, seconds, where=name)


@pytest.fixture(scope="module")
def reader():
    return ExampleReader(train_tokenizer(["one two three"]), LIMITS)


def load(corpus, reader, count=1, **settings):
    data = DataSettings(workers=0, **settings)
    sampler = EpochBatches(corpus, 1, 60, 4, data.augment.speed, Position())
    batches = iter(training_loader(corpus, sampler, reader, data, 1))
    return [next(batches) for _ in range(count)]


def test_labels_are_the_next_tokens_and_the_end_is_learned(reader):
    utterances = [utterance("a"), utterance("b", 0.5, "three")]
    (batch,) = evaluation_batches(utterances, reader, 60)
    tokenizer = reader.tokenizer
    for tokens, labels, u in zip(
        batch.decoder_input_ids, batch.labels, batch.utterances, strict=True
    ):
        wanted = [i for i in labels.tolist() if i != IGNORED]
        assert tokenizer.decode(wanted, skip_special_tokens=True).strip() == u.text
        assert wanted[-1] == tokenizer.eos_token_id
        assert tokens[1 : len(wanted)].tolist() == wanted[:-1]
        assert (tokens[len(wanted) :] == tokenizer.pad_token_id).all()
    lengths = batch.attention_mask.sum(1).tolist()
    assert sorted(lengths) == [50, 100]


def test_a_batch_can_be_pinned(reader, monkeypatch):
    """The loader asks a batch itself, and leaves alone what it does not know."""
    (batch,) = evaluation_batches([utterance("a"), utterance("b", 0.5)], reader, 60)
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self) or -self)
    found = pin_memory(batch)
    assert found.utterances == batch.utterances
    for name, value in vars(batch).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(getattr(found, name), -value), name
    assert len(pinned) == 4


def test_workers_can_be_spawned(reader):
    """As on macOS and Windows, where what a worker needs is pickled."""
    corpus = FixedCorpus([utterance("a"), utterance("b", 0.5, "three")], [])
    data = DataSettings()
    sampler = EpochBatches(corpus, 1, 60, 4, data.augment.speed, Position())
    loader = training_loader(corpus, sampler, reader, data, 1)
    dataset, collate = pickle.loads(pickle.dumps((loader.dataset, loader.collate_fn)))
    items = next(iter(pickle.loads(pickle.dumps(list(islice(sampler, 1))))))
    found = collate([dataset[item] for item in items])
    wanted = loader.collate_fn([loader.dataset[item] for item in items])
    assert torch.equal(found.input_features, wanted.input_features)
    assert torch.equal(found.labels, wanted.labels)


def test_draws_depend_on_the_utterance_and_epoch_alone(reader):
    """Whatever it is batched with, an utterance is augmented alike; and anew in each epoch."""
    few = FixedCorpus([utterance("a")], [])
    many = FixedCorpus([utterance("a"), utterance("b"), utterance("c", 0.7)], [])
    still = AugmentSettings(speed=[1.0])
    found = []
    for corpus in (few, many):
        (batch,) = load(corpus, reader, augment=still)
        index = [u.id for u in batch.utterances].index("a")
        found.append(batch.input_features[index, :, :100])
    assert torch.equal(*found)
    first, second = load(few, reader, count=2, augment=still)
    assert not torch.equal(first.input_features, second.input_features)


def test_silence_up_to_30_seconds_counts_as_audio():
    reader = ExampleReader(train_tokenizer(["one two"]), Limits(80, 3000, 12, pad_to_seconds=30))
    (batch,) = evaluation_batches([utterance("a")], reader, 60)
    assert batch.input_features.shape == (1, 80, 3000)
    assert batch.attention_mask.all()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (utterance("long", 4), "long: the audio is 4.0 s long, but the encoder takes 3.0 s"),
        (utterance("over", 3.004), "over: the audio is 3.01 s long, but the encoder takes 3.0 s"),
        (
            utterance("wordy", text="one two three one two"),
            "wordy: the transcript is 23 tokens long, but the decoder takes 12",
        ),
        (utterance("odd", text="zwölf"), "the tokenizer cannot write"),
    ],
)
def test_what_the_model_cannot_take_is_found_before_training(reader, bad, message, caplog):
    with pytest.raises(DataError, match=message):
        check_utterances([utterance("good"), bad], reader, "raise")
    with caplog.at_level(logging.WARNING):
        kept = check_utterances([utterance("good"), bad], reader, "skip")
    assert [u.id for u in kept] == ["good"]
    assert message in caplog.text
    assert "1 of 2 utterances skipped" in caplog.text
    with pytest.raises(DataError, match="no utterance is left"):
        check_utterances([bad], reader, "skip")


def test_a_recording_found_bad_in_training_is_left_out_and_reported(reader, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF nothing of the kind")
    bad = Utterance("bad", AudioFile(broken), "one", 1.0)
    corpus = FixedCorpus([utterance("a"), bad], [])
    (batch,) = load(corpus, reader)
    assert [u.id for u in batch.utterances] == ["a"]
    assert len(batch.skipped) == 1
    assert "broken.wav: cannot be read as audio" in str(batch.skipped[0])
    (nothing,) = load(FixedCorpus([bad], []), reader)
    assert len(nothing) == 1


@pytest.mark.parametrize("cached", [False, True])
def test_a_recording_that_is_longer_than_its_row_says_is_not_decoded(
    reader, tmp_path, monkeypatch, cached
):
    path = write(tmp_path / "hour.flac", np.zeros((8000 * 3600, 1)), 8000)
    decoded = []
    monkeypatch.setattr(audio, "decode", lambda *source: decoded.append(source))
    recording = AudioFile(path)
    if cached:
        recording = CachedAudio(recording, AudioCache(tmp_path / "cache", 10**9))
    with pytest.raises(DataError, match=r"the audio is 3600\.0 s long, but the encoder takes"):
        reader.read(Utterance("a", recording, "ab", 1.0))
    assert not decoded


def test_a_recording_near_the_limit_is_not_slowed_beyond_it(reader):
    long = utterance("long", 2.9)
    assert reader.read(long, 0.9).features.shape == (80, 290)
    assert reader.read(long, 1.1).features.shape == (80, 264)
    assert reader.read(utterance("short"), 0.9).features.shape == (80, 112)


def test_what_is_wrong_names_its_line(reader, tmp_path):
    gone = AudioFile(tmp_path / "gone.wav")
    for bad, message in (
        (Utterance("x", gone, "one", 1.0, where="m.jsonl:7"), f"{gone.path}: no such recording"),
        (utterance("m.jsonl:7", text="one\nzw\u00f6lf"), "the tokenizer cannot write 'one zw"),
    ):
        with pytest.raises(DataError) as caught:
            reader.read(bad)
        assert str(caught.value).startswith(f"m.jsonl:7: {message}")
        assert "\n" not in str(caught.value)


def test_a_reference_need_not_be_writable(reader):
    """A model is measured on text that its own tokenizer lacks, too."""
    unlabelled = ExampleReader(reader.tokenizer, LIMITS, labelled=False)
    odd = utterance("odd", text="zwölf, ganz und gar zwölf")
    assert check_utterances([odd], unlabelled, "raise") == [odd]
    (batch,) = evaluation_batches([odd], unlabelled, 60)
    assert batch.input_features.shape == (1, 80, 100)


@pytest.mark.parametrize("speed", [0.9, 1.1, 0.93333])
def test_any_speed_is_cheap(reader, monkeypatch, speed):
    rates = []

    def resampler(rate, new_rate):
        rates.append(rate)
        return mixing.Resample(rate, new_rate)

    monkeypatch.setattr(mixing, "resampler", resampler)
    seconds = reader.read(utterance("a", 2.0), speed).seconds
    assert seconds == pytest.approx(2 / speed, rel=1e-3)
    # The kernel of 14,933 : 16,000, which 0.93333 would be, takes a gigabyte.
    assert [rate % 25 for rate in rates] == [0]
