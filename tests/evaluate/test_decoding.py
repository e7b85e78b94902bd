"""What a batch of utterances is decoded to."""

import logging
import math
from dataclasses import replace

import pytest
import torch
from transformers.utils import logging as transformers_logging

from echo.checkpoints.load import load_model
from echo.config import DecodeSettings
from echo.data.audio import AudioArray
from echo.data.columns import Utterances
from echo.data.examples import ExampleReader
from echo.data.loading import evaluation_batches
from echo.data.utterance import Utterance
from echo.evaluate.decoding import decode_batch, decode_with_confidence, generate, transcribe_set
from echo.model.geometry import SAMPLE_RATE, Limits
from echo.transcribe.transcribe import Transcriber, TranscribeSettings
from tests.data.recordings import tone
from tests.small_multilingual import save_multilingual
from tests.transcribe.test_transcribe import untrained


@pytest.mark.parametrize("beams", [1, 3])
def test_confidence_is_the_mean_probability_that_the_model_gives_its_text(beams):
    loaded = untrained()
    model, tokenizer = loaded.model, loaded.tokenizer
    # So that there is a text, of which to be confident.
    model.generation_config.suppress_tokens = tokenizer.convert_tokens_to_ids(["<|notimestamps|>"])
    utterances = [
        Utterance(str(n), AudioArray(tone(n), SAMPLE_RATE, ""), "", float(n)) for n in (1, 2)
    ]
    settings = DecodeSettings(beams=beams, ctc_weight=0)
    reader = ExampleReader(tokenizer, Limits.of(model.config), labelled=False)
    (batch,) = evaluation_batches(utterances, reader, settings.max_batch_seconds)
    found = decode_with_confidence(loaded, batch, settings)
    assert [text for text, _ in found] == decode_batch(loaded, batch, settings)
    ids = generate(loaded, batch, settings, return_dict_in_generate=True).sequences
    with torch.no_grad():
        logits = model(
            batch.input_features, attention_mask=batch.attention_mask, decoder_input_ids=ids[:, :-1]
        ).logits
    logits[..., model.generation_config.suppress_tokens] = -math.inf
    logprobs = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    for row, row_ids, (_, confidence) in zip(logprobs, ids[:, 1:], found, strict=True):
        spoken = [i not in tokenizer.all_special_ids for i in row_ids.tolist()]
        assert any(spoken)
        assert confidence == pytest.approx(math.exp(row[spoken].mean()), rel=1e-4)


def test_a_set_in_columns_is_decoded_as_a_list_is():
    """Its utterances are other objects each time that they are asked for."""
    loaded = untrained()
    utterances = [
        Utterance(str(n), AudioArray(tone(n), SAMPLE_RATE, ""), "", float(n)) for n in (1, 2)
    ]
    settings = DecodeSettings(ctc_weight=0)
    from_list, from_columns = (
        transcribe_set(loaded, rows, settings) for rows in (utterances, Utterances.of(utterances))
    )
    assert [u.id for u in from_columns.utterances] == ["1", "2"]
    assert from_columns.texts == from_list.texts


@pytest.fixture
def warnings_of_transformers(caplog, monkeypatch):
    """What transformers' loggers say, also what they would say only once in a process."""
    library = logging.getLogger("transformers")
    monkeypatch.setattr(library, "propagate", True)
    monkeypatch.setattr(library, "level", logging.WARNING)
    transformers_logging.warning_once.cache_clear()
    return caplog


@pytest.mark.parametrize("beams", [1, 2])
def test_transformers_has_nothing_to_warn_of(tmp_path, warnings_of_transformers, beams):
    """Padding is the end of text, as in every Whisper, and the batch has some."""
    loaded = load_model(save_multilingual(tmp_path / "whisper"), language="en")
    model, tokenizer = loaded.model, loaded.tokenizer
    lengths = (1, 2)
    utterances = [
        Utterance(str(n), AudioArray(tone(n).T, SAMPLE_RATE, ""), "", float(n)) for n in lengths
    ]
    reader = ExampleReader(tokenizer, replace(Limits.of(model.config), pad_to_seconds=0), False)
    (batch,) = evaluation_batches(utterances, reader, 100)
    assert batch.attention_mask.min() == 0
    assert model.generation_config.pad_token_id == model.generation_config.eos_token_id
    decode_batch(loaded, batch, DecodeSettings(beams=beams))
    transcriber = Transcriber(loaded, TranscribeSettings(beams=beams))
    transcriber.transcribe([utterance.audio.load() for utterance in utterances], lambda _: None)
    assert [record.getMessage() for record in warnings_of_transformers.records] == []


def test_durations_are_those_that_were_heard():
    claimed = [Utterance(str(n), AudioArray(tone(n).T, SAMPLE_RATE, ""), "", 20.0) for n in (1, 2)]
    found = transcribe_set(untrained(), claimed, DecodeSettings())
    assert [u.duration for u in found.utterances] == [1.0, 2.0]
    assert found.rtfx == pytest.approx(3.0 / found.seconds)
