"""What a batch of utterances is decoded to."""

import math

import pytest
import torch

from echo.config import DecodeSettings
from echo.data.audio import AudioArray
from echo.data.loading import ExampleReader, evaluation_batches
from echo.data.utterance import Utterance
from echo.evaluate.decoding import decode_batch, decode_with_confidence, generate
from echo.model.geometry import SAMPLE_RATE, Limits
from tests.data.recordings import tone
from tests.transcribe.test_transcribe import untrained


@pytest.mark.parametrize("beams", [1, 3])
def test_confidence_is_the_mean_probability_that_the_model_gives_its_text(beams):
    loaded = untrained()
    model, tokenizer = loaded.model, loaded.tokenizer
    utterances = [
        Utterance(str(n), AudioArray(tone(n), SAMPLE_RATE, ""), "", float(n)) for n in (1, 2)
    ]
    settings = DecodeSettings(beams=beams, ctc_weight=0)
    reader = ExampleReader(tokenizer, Limits.of(model.config), labelled=False)
    (batch,) = evaluation_batches(utterances, reader, settings.max_batch_seconds)
    found = decode_with_confidence(model, tokenizer, batch, settings)
    assert [text for text, _ in found] == decode_batch(model, tokenizer, batch, settings)
    ids = generate(model, tokenizer, batch, settings, return_dict_in_generate=True).sequences
    with torch.no_grad():
        logits = model(
            batch.input_features, attention_mask=batch.attention_mask, decoder_input_ids=ids[:, :-1]
        ).logits
    logprobs = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    for row, row_ids, (_, confidence) in zip(logprobs, ids[:, 1:], found, strict=True):
        spoken = [i not in tokenizer.all_special_ids for i in row_ids.tolist()]
        assert any(spoken)
        assert confidence == pytest.approx(math.exp(row[spoken].mean()), rel=1e-4)
