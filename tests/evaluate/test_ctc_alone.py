"""The CTC head alone writes what its most probable path says."""

from dataclasses import replace
from itertools import groupby

import pytest
import torch

from echo.config import DecodeSettings
from echo.data.audio import AudioArray
from echo.data.features import log_mel
from echo.data.utterance import Utterance
from echo.evaluate.decoding import transcribe_set
from echo.evaluate.decodings import CTC, DECODER, JOINT
from echo.model.geometry import SAMPLE_RATE
from echo.support.errors import ConfigError
from tests.data.recordings import tone, write, write_manifest
from tests.small_whisper import save_whisper, small_whisper
from tests.test_cli import run
from tests.transcribe.test_transcribe import untrained

ALONE = DecodeSettings(ctc_alone=True)


def test_each_utterance_gets_the_best_path_that_it_has_alone():
    loaded = untrained()
    model, tokenizer = loaded.model.eval(), loaded.tokenizer
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():  # so that the untrained head writes different letters
        model.ctc_head.weight.copy_(torch.randn(model.ctc_head.weight.shape, generator=noise))
    utterances = [
        Utterance(str(n), AudioArray(tone(n), SAMPLE_RATE, ""), "", float(n)) for n in (0.5, 1.7, 1)
    ]
    found = transcribe_set(loaded, utterances, ALONE)
    for utterance, text in zip(utterances, found.texts, strict=True):
        features = log_mel(utterance.audio.load(), model.config.num_mel_bins)[None]
        with torch.no_grad():
            logits = model.ctc_head(model.model.encoder(features).last_hidden_state)[0]
        path = [token for token, _ in groupby(logits.argmax(-1).tolist())]
        assert text == tokenizer.decode(path, skip_special_tokens=True).strip()
    assert any(found.texts)


def test_the_decoder_is_measured_too_where_a_run_reads_the_head_alone():
    """Not the head a second time, under the decoder's name."""
    config = untrained().model.config
    assert CTC.settings(ALONE, config) == JOINT.settings(ALONE, config) == ALONE
    assert DECODER.settings(ALONE, config) == DecodeSettings(ctc_weight=0.0)
    config.ctc = False
    assert DECODER.settings(DecodeSettings(), config) is None


def test_a_model_without_the_head_is_refused():
    utterance = Utterance("a", AudioArray(tone(1), SAMPLE_RATE, ""), "", 1.0)
    loaded = untrained()
    loaded.model.config.ctc = False
    with pytest.raises(ConfigError, match="needs a model with a CTC head"):
        transcribe_set(loaded, [utterance], ALONE)


def test_a_weight_is_refused_for_a_model_without_the_head(monkeypatch, capsys, tmp_path):
    write(tmp_path / "a.wav")
    data = write_manifest(tmp_path / "a.jsonl", {"audio_filepath": "a.wav", "text": "the dog"})
    model = save_whisper(small_whisper(), tmp_path / "whisper")
    code, _, err = run(monkeypatch, capsys, "evaluate", model, data, "--ctc-weight", "0.3")
    assert code == 2
    assert f"--ctc-weight has no effect: {model} has no CTC head" in err


def test_beams_have_no_effect_and_are_refused():
    with pytest.raises(ValueError, match="beams has no effect"):
        replace(ALONE, beams=2)
