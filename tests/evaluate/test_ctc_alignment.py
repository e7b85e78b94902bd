"""When each word of a transcript was said, as CTC hears it."""

import json

import pytest
import torch

from echo.checkpoints.load import LoadedModel
from echo.config import RunConfig
from echo.data.audio import AudioArray
from echo.data.tokenizer import text_ids, train_tokenizer
from echo.data.utterance import Utterance
from echo.evaluate.ctc_alignment import best_path, word_times
from echo.evaluate.evaluation import evaluate_model
from echo.model.geometry import SAMPLE_RATE
from echo.support.settings import build
from echo.train.build import build_model
from tests.data.recordings import tone

TEXTS = ["one two three", "two one", "über zwei drei", "three three three"]
FRAME = 0.02  # seconds


@pytest.mark.parametrize(("kind", "size"), [("characters", None), ("bpe", 280)])
def test_a_word_is_timed_from_its_first_frame_to_its_last(kind, size):
    """Of a CTC head that is sure of each frame."""
    tokenizer = train_tokenizer(TEXTS, kind, size)
    blank = tokenizer.pad_token_id
    for text in TEXTS:
        frames, expected = [blank] * 3, []
        for word in text.split():
            ids = text_ids(tokenizer, f" {word}")
            if tokenizer.decode(ids[0]) == " ":  # a space takes no time
                frames += [ids.pop(0), blank, blank]
            start = len(frames)
            for token in ids:
                frames += [token] * 2 + [blank]
            expected.append((start * FRAME, (len(frames) - 1) * FRAME))
        found = word_times(sure_of(frames, len(tokenizer)), spaced(text), tokenizer)
        assert found == [pytest.approx(times) for times in expected]


def test_a_word_in_other_letters_is_heard_in_those_of_the_head():
    """Another case is the same sound; what the head cannot write lies between what it can."""
    tokenizer = train_tokenizer(TEXTS, "characters", None)
    frames = [tokenizer.pad_token_id]
    for word in ("one", "two"):
        frames += [*text_ids(tokenizer, f" {word}"), *[tokenizer.pad_token_id] * 3]
    log_probs = sure_of(frames, len(tokenizer))
    said = word_times(log_probs, spaced("one two"), tokenizer)
    assert word_times(log_probs, spaced("One, TWO."), tokenizer) == said
    one, unknown, two = word_times(log_probs, spaced("one 2 two"), tokenizer)
    assert (one, two) == tuple(said)
    assert one[1] <= unknown[0] <= unknown[1] <= two[0]
    assert word_times(log_probs, spaced("2 22"), tokenizer) is not None


@pytest.mark.parametrize("frames", [0, 12])
def test_a_text_that_cannot_be_heard_has_no_times(frames):
    tokenizer = train_tokenizer(TEXTS, "characters", None)
    log_probs = torch.zeros(frames, len(tokenizer))
    assert word_times(log_probs, spaced("one two three"), tokenizer) is None
    assert word_times(log_probs, [], tokenizer) is None


@pytest.mark.parametrize("has_head", [True, False])
def test_an_evaluation_writes_the_times_that_it_knows(has_head, tmp_path):
    """In a batch of recordings of several lengths, within each recording and in order."""
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "heads": 2}
    settings = {
        "model": {**sizes, "max_seconds": 4, "max_tokens": 12},
        "loss": {"ctc_weight": 0.3 if has_head else 0.0},
    }
    tokenizer = train_tokenizer(TEXTS, "characters", None)
    torch.manual_seed(1)
    model = build_model(build(RunConfig, settings, "test"), tokenizer)
    utterances = [
        Utterance(f"tone {n}", AudioArray(tone(n), SAMPLE_RATE, ""), "one", float(n))
        for n in (1, 2, 3)
    ]
    evaluate_model(LoadedModel(model, tokenizer), utterances).write(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "utterances.jsonl").open()]
    assert any(line["hypothesis"] for line in lines)
    for line in lines:
        heard = line["hypothesis"].split()
        assert ("times" in line) == (has_head and bool(heard))
        points = [point for times in line.get("times", []) for point in times]
        assert len(points) == 2 * len(heard) * has_head
        assert points == sorted(points)
        assert all(0 <= point <= line["duration"] + FRAME for point in points)


def spaced(text):
    return [f" {word}" for word in text.split()]


def sure_of(frames, size):
    """The log probabilities of a head that hears one token in each frame."""
    log_probs = torch.full((len(frames), size), -20.0)
    log_probs[torch.arange(len(frames)), torch.tensor(frames)] = 0.0
    return log_probs


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_align_nothing(number):
    """The aligner would read memory that is not its own."""
    log = torch.randn(12, 5).log_softmax(-1)
    log[3] = number
    assert best_path(log, torch.tensor([1, 2]), 0) is None
