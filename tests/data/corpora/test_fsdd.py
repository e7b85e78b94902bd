from collections import Counter

import numpy as np
import pytest
import soundfile
import torch

from echo.data.corpora.fsdd import MAX_DIGITS, ConnectedDigits
from echo.model.geometry import SAMPLE_RATE
from echo.support.errors import DataError

RATE = 8_000


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """A data set of two speakers, whose recordings are a few milliseconds of noise."""
    root = tmp_path_factory.mktemp("fsdd")
    (root / "recordings").mkdir()
    for speaker in ("ann", "bob"):
        for digit in range(10):
            for index in range(50):
                path = root / "recordings" / f"{digit}_{speaker}_{index}.wav"
                soundfile.write(path, np.full(40 + index, 0.1), RATE)
    return root


def spoken(utterances):
    return Counter(part.path.name for u in utterances for part in u.audio.parts)


def test_every_training_recording_once_per_epoch(complete):
    corpus = ConnectedDigits(complete)
    expected = {f"{d}_{s}_{i}.wav" for s in ("ann", "bob") for d in range(10) for i in range(5, 50)}
    for epoch in range(3):
        utterances = corpus.train_epoch(epoch)
        assert spoken(utterances) == dict.fromkeys(expected, 1)
        assert len({u.id for u in utterances}) == len(utterances)
        assert {len(u.audio.parts) for u in utterances} == set(range(1, MAX_DIGITS + 1))


def test_epochs_follow_from_seed_and_number(complete):
    corpus = ConnectedDigits(complete, seed=1)
    later = corpus.train_epoch(2)
    assert ConnectedDigits(complete, seed=1).train_epoch(2) == later
    assert corpus.train_epoch(3) != later
    assert ConnectedDigits(complete, seed=2).train_epoch(2) != later


def test_the_dev_split_is_held_out_of_training(complete):
    corpus = ConnectedDigits(complete, split="dev")
    assert set(spoken(corpus.eval_utterances())) == {
        f"{d}_{s}_{i}.wav" for s in ("ann", "bob") for d in range(10) for i in range(5, 10)
    }
    assert set(spoken(corpus.train_epoch(0))) == {
        f"{d}_{s}_{i}.wav" for s in ("ann", "bob") for d in range(10) for i in range(10, 50)
    }


def test_evaluation_set_is_fixed_and_apart(complete):
    evaluation = ConnectedDigits(complete, seed=1).eval_utterances()
    assert ConnectedDigits(complete, seed=2).eval_utterances() == evaluation
    assert len(evaluation) >= 600
    assert len({u.id for u in evaluation}) == len(evaluation)
    counts = spoken(evaluation)
    assert len(set(counts.values())) == 1
    assert set(counts) == {
        f"{d}_{s}_{i}.wav" for s in ("ann", "bob") for d in range(10) for i in range(5)
    }


def test_rows_are_one_speaker_with_the_right_words(complete):
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    for utterance in ConnectedDigits(complete).train_epoch(0)[:50]:
        names = [part.path.name for part in utterance.audio.parts]
        assert {name.split("_")[1] for name in names} == {utterance.speaker}
        assert utterance.text == " ".join(words[int(name[0])] for name in names)


def test_decoding_leaves_what_is_kept_alone(complete):
    utterance = ConnectedDigits(complete).train_epoch(0)[0]
    first = utterance.audio.load()
    assert len(first) / SAMPLE_RATE == pytest.approx(utterance.duration, abs=1e-3)
    assert torch.equal(utterance.audio.load().zero_(), torch.zeros_like(first))
    assert torch.equal(utterance.audio.load(), first)


def test_what_is_missing_is_said(complete, tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        ConnectedDigits(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        ConnectedDigits(tmp_path / ("x" * 300))
    folder = tmp_path / "recordings"
    folder.mkdir()
    with pytest.raises(DataError, match=r"holds no \.wav"):
        ConnectedDigits(tmp_path)
    for path in (complete / "recordings").glob("*.wav"):
        (folder / path.name).symlink_to(path)
    for index in (17, 18, 40):
        (folder / f"4_ann_{index}.wav").unlink()
    with pytest.raises(DataError, match=r"ann lacks 3 of 500 recordings, first 4_ann_17\.wav"):
        ConnectedDigits(tmp_path)
    (folder / "four.wav").touch()
    with pytest.raises(DataError, match=r"four\.wav: not named"):
        ConnectedDigits(tmp_path)


def test_real_data_set(shared):
    corpus = ConnectedDigits(shared / "data" / "fsdd")
    utterances = corpus.train_epoch(0)
    assert spoken(utterances).total() == 2700
    assert len({u.speaker for u in utterances}) == 6
    assert len(corpus.eval_utterances()) >= 600
    for utterance in utterances[:20]:
        samples = utterance.audio.load()
        assert len(samples) / SAMPLE_RATE == pytest.approx(utterance.duration, abs=1e-3)
        assert samples.abs().max() > 0.01
