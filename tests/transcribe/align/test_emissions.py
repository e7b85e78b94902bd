"""When the words of a text are said, by a real Whisper and by a CTC head that is known exactly."""

from types import SimpleNamespace

import pytest
import torch

from echo.checkpoints.load import load_model
from echo.data.audio import AudioFile
from echo.data.tokenizer import train_tokenizer
from echo.data.voice import voiced
from echo.evaluate.normaliser import normaliser
from echo.model.geometry import SAMPLE_RATE
from echo.model.model import EncoderOutput
from echo.support.errors import ConfigError
from echo.transcribe.align import emissions
from echo.transcribe.align.emissions import ANYTHING, CTC, CrossAttention, find_emissions

TEXT = "every measure pursued by the commons"


def sums(said):
    return sum(word.logprob for word in said) / sum(word.tokens for word in said)


def test_a_whisper_times_right_words_and_finds_wrong_ones_improbable(shared):
    loaded = load_model(shared / "models/whisper-tiny.en")
    found = find_emissions(loaded, normaliser("en", loaded.tokenizer), voiced, "tiny")
    assert isinstance(found, CrossAttention)
    speech = AudioFile(shared / "data/librispeech/dev/8226-274369-0000.opus").load()
    pause = torch.zeros(2 * SAMPLE_RATE)
    align = found.listen(torch.cat([pause, speech, pause, speech, pause]))
    words = TEXT.split()
    said = align([*words, *words])
    starts, ends = [word.start for word in said], [word.end for word in said]
    assert starts == sorted(starts)
    assert all(start < end for start, end in zip(starts, ends, strict=True))
    seconds = len(speech) / SAMPLE_RATE
    assert 2 <= starts[0] < 2.6  # after the pause, which Whisper takes for a part of the word
    assert ends[5] <= 2 + seconds < 4 + seconds <= starts[6]
    assert ends[-1] <= 4 + 2 * seconds
    assert sums(said) > -1
    wrong = align([*words, *["nobody", "has", "ever", "said", "a", "word", "of", "that"]])
    assert sums(wrong[6:]) < -4
    said = align([ANYTHING, *words])  # which can be either
    assert said[0].tokens == 0
    assert sums(said) > -1
    assert align(["word"] * 500) is None  # more than the decoder takes
    assert align(["word"] * 440) is not None
    assert align([]) is None


def test_ctc_words_are_where_their_letters_are(monkeypatch):
    tokenizer = train_tokenizer(["a bc d"])
    ids = tokenizer.get_vocab()
    blank = tokenizer.pad_token_id
    path = [blank, ids["Ġ"], ids["a"], blank, ids["Ġ"], ids["b"], ids["b"], ids["c"], blank, blank]
    log = torch.full((1, len(path), len(ids)), -9.0)
    log[0, torch.arange(len(path)), path] = -0.1
    model = SimpleNamespace(
        config=SimpleNamespace(ctc=True), ctc_logits=lambda encoded: encoded.last_hidden_state
    )
    loaded = SimpleNamespace(model=model, ctc_tokenizer=tokenizer)
    encoded = EncoderOutput(last_hidden_state=log)
    monkeypatch.setattr(emissions, "encode", lambda model, samples: (encoded, len(path)))
    found = find_emissions(loaded, normaliser("de", tokenizer), voiced, "model")
    assert isinstance(found, CTC)
    align = found.listen(torch.zeros(0))
    first, second = align(["A,", "bc"])  # as the tokenizer cannot write it
    assert (first.start, first.end) == pytest.approx((0.04, 0.06))
    assert (second.start, second.end) == pytest.approx((0.1, 0.16))
    assert sums([first, second]) > -0.5 > -3 > sums(align(["d", "d"]))
    only = align([ANYTHING, "bc"])
    assert (only[0].tokens, only[1].tokens) == (0, 3)
    assert (only[1].start, only[1].end) == pytest.approx((0.1, 0.16))
    assert align(["abc"] * 9) is None


@pytest.mark.parametrize(
    ("heads", "why"),
    [
        (None, "it has no CTC head, and its generation config names no alignment_heads"),
        ([[1, 0], [10, 0]], "the head 0 of layer 10 in its alignment_heads is none of its 2 dec"),
        ([[1, 6]], "the head 6 of layer 1"),
    ],
)
def test_a_model_that_cannot_align_is_refused(heads, why):
    config = SimpleNamespace(ctc=False, decoder_layers=2, decoder_attention_heads=6)
    generation = SimpleNamespace(alignment_heads=heads)
    model = SimpleNamespace(config=config, generation_config=generation)
    with pytest.raises(ConfigError, match=f"runs/a: cannot align texts: {why}"):
        find_emissions(SimpleNamespace(model=model), None, voiced, "runs/a")
