"""Words timed by a CTC head."""

from itertools import pairwise

import pytest
import torch

from echo.data.tokenizer import text_ids
from echo.model.geometry import ENCODER_FRAME_SECONDS, SAMPLE_RATE
from echo.model.model import EchoForConditionalGeneration
from echo.transcribe.transcribe import Transcriber, TranscribeSettings
from echo.transcribe.transcript import Segment, Transcript, Word
from echo.transcribe.word_times import groups, heard_around, spaced, with_word_times
from tests.transcribe.test_transcribe import untrained


def segment(start, end, *words):
    return Segment(start, end, " ".join(words), tuple(Word(start, end, word) for word in words))


def hears(monkeypatch, tokenizer, text, first, step):
    """Makes the head hear a text's letters one by one, from a frame on."""
    ids = text_ids(tokenizer, text)

    def logits_of(self, encoded):
        logits = torch.zeros(*encoded.last_hidden_state.shape[:2], len(tokenizer))
        logits[..., tokenizer.pad_token_id] = 20
        for number, token in enumerate(ids):
            logits[:, first + step * number, token] = 40
        return logits

    monkeypatch.setattr(EchoForConditionalGeneration, "ctc_logits", logits_of)
    return ids


def test_words_are_timed_from_where_their_piece_begins(monkeypatch):
    """Segments that fit into the encoder together are aligned together, others by themselves."""
    loaded = untrained()  # which hears 2 s
    hears(monkeypatch, loaded.tokenizer, " one two", first=20, step=5)
    samples = torch.randn(7 * SAMPLE_RATE)
    parts = segment(0.5, 0.8, "One,"), segment(0.9, 1.4, "two."), segment(5.0, 6.0, "one", "two")
    (found,) = with_word_times(loaded, [samples], [Transcript(7.0, parts)])
    assert [s.text for s in found.segments] == ["One,", "two.", "one two"]
    times = [(w.start, w.end) for s in found.segments for w in s.words]
    frame = ENCODER_FRAME_SECONDS
    one, two = (25 * frame, 36 * frame), (45 * frame, 56 * frame)  # after their spaces
    begins = 4.5  # the second piece, with its margin; the first begins at 0
    wanted = [one, two, *((begins + start, begins + end) for start, end in (one, two))]
    assert times == [pytest.approx(each) for each in wanted]


def test_no_word_ends_after_the_recording(monkeypatch):
    """Of the last frame only a part may be heard."""
    loaded = untrained()
    hears(monkeypatch, loaded.tokenizer, " one", first=22, step=1)
    samples = torch.randn(8080)
    before = Transcript(0.505, (segment(0.1, 0.4, "one"),))
    (found,) = with_word_times(loaded, [samples], [before])
    [word] = found.segments[0].words
    assert (word.start, word.end) == pytest.approx((0.46, 0.505))


def test_words_that_cannot_be_aligned_lie_in_proportion_to_their_characters(monkeypatch):
    loaded = untrained()
    hears(monkeypatch, loaded.tokenizer, " one", first=1, step=1)
    words = ["three"] * 20
    before = Transcript(1.0, (segment(0.2, 0.4, *words),))
    [found] = with_word_times(loaded, [torch.randn(SAMPLE_RATE)], [before])
    count = len(words)
    share = 0.2 / (count * len(words[0]) + count - 1)  # of a character, or the space between words
    for place, word in enumerate(found.segments[0].words):
        start = 0.2 + share * place * (len(words[0]) + 1)
        assert (word.start, word.end) == pytest.approx((start, start + share * len(words[0])))
        assert word.text == words[place]


def test_a_model_from_scratch_times_what_it_hears():
    samples = (
        0.1 * torch.randn(5 * SAMPLE_RATE) * (1 + (torch.arange(5 * SAMPLE_RATE) % 9000) / 500)
    )
    settings = TranscribeSettings(words=True)
    (found,) = Transcriber(untrained(), settings).transcribe([samples], lambda _: None)
    assert found.segments
    for one in found.segments:
        assert [word.text for word in one.words] == one.text.split()
        points = [point for word in one.words for point in (word.start, word.end)]
        assert points == sorted(points)
        assert all(one.start - 0.5 <= point <= one.end + 0.6 for point in points)


def test_pieces_hold_their_segments_and_do_not_overlap():
    parts = [segment(0.3, 1, "a"), segment(1.2, 3, "b"), segment(3, 4.5, "c"), segment(9, 10, "d")]
    found = [*groups(parts, 4.0)]
    assert [n for group in found for n in group] == [0, 1, 2, 3]
    places = [heard_around(parts, group, 4.0) for group in found]
    assert all(before[1] <= after[0] for before, after in pairwise(places))
    for group, (start, end) in zip(found, places, strict=True):
        assert 0 <= start <= parts[group[0]].start
        assert parts[group[-1]].end <= end <= start + 4.0


@pytest.mark.parametrize(
    ("text", "words", "wanted"),
    [
        ("Well, yes.", ["Well,", "yes."], [" Well,", " yes."]),
        ("你好吗", ["你", "好", "吗"], [" 你", "好", "吗"]),
    ],
)
def test_words_keep_the_spaces_before_them(text, words, wanted):
    one = Segment(0, 1, text, tuple(Word(0, 1, word) for word in words))
    assert [*spaced(one)] == wanted
