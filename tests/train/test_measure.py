"""The WER that training measures is the one that evaluation shows."""

from types import SimpleNamespace

import pytest

from echo.data.utterance import Utterance
from echo.evaluate.decoding import Transcripts
from echo.train import measuring
from tests.train.test_step import make_trainer


@pytest.mark.parametrize(
    ("language", "said", "heard", "wer"),
    [
        ("zh", "我们走吧", "我们走 了", 1 / 4),
        ("th", "ไปกันเถอะ", "ไปกันเถอ", 1 / 8),
        ("en", "let us go", "let us stay", 1 / 3),
        ("de", "Gehen wir", "gehen wir", 1 / 2),  # as written
    ],
)
def test_languages_without_spaces_are_measured_by_letters(
    tmp_path, monkeypatch, language, said, heard, wer
):
    trainer = make_trainer(tmp_path)
    generation = trainer.state.unwrapped.generation_config
    generation.is_multilingual, generation.language = True, language
    utterances = [Utterance("a", None, said, 1.0)]
    trainer.measuring.corpus = SimpleNamespace(eval_utterances=lambda: utterances)
    monkeypatch.setattr(
        measuring, "transcribe_set", lambda *_, **__: Transcripts(utterances, [heard], 1)
    )
    assert trainer.measure(None) == pytest.approx(wer)
