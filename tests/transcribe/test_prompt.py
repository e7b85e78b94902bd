"""A prompt and hotwords: what the decoder reads before each window, and what it never writes."""

import logging

import pytest
import torch

from echo.checkpoints.load import load_model
from echo.support.errors import ConfigError
from echo.transcribe.transcribe import FALLBACK, Transcriber, TranscribeSettings
from tests.small_multilingual import SPECIAL, save_multilingual
from tests.transcribe.test_transcribe import melody, untrained

MOST = 30  # half of what the decoder takes


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Of windows of 6 s."""
    folder = save_multilingual(
        tmp_path_factory.mktemp("whisper"), max_source_positions=300, max_target_positions=2 * MOST
    )
    loaded = load_model(folder, language="en")
    # With times, which evaluation does without.
    never = [loaded.tokenizer.convert_tokens_to_ids(token) for token in SPECIAL[1:]]
    loaded.model.generation_config.suppress_tokens = never
    return loaded


def prompts(loaded, **settings):
    """What the decoder reads first of each window of two recordings, and the transcripts."""
    transcriber = Transcriber(loaded, TranscribeSettings(**settings))
    tune = melody()
    first = []

    def remember(module, args, kwargs):
        ids = kwargs["input_ids"]
        if ids.shape[1] > 1:
            first.extend(ids.tolist())

    hook = loaded.model.model.decoder.register_forward_pre_hook(remember, with_kwargs=True)
    try:
        found = transcriber.transcribe([tune, 0.5 * tune[: len(tune) // 2]], lambda seconds: None)
    finally:
        hook.remove()
    return first, found


def told(loaded, *texts):
    """As the tokenizer of `transformers` writes a prompt, with Whisper's start after it."""
    before = loaded.tokenizer.get_prompt_ids(" ".join(texts)).tolist() if texts else []
    names = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>"]
    return before + loaded.tokenizer.convert_tokens_to_ids(names)


@pytest.mark.parametrize(
    ("settings", "texts"),
    [
        ({}, []),
        ({"prompt": "the lazy dog"}, ["the lazy dog"]),
        ({"hotwords": " quick  fox "}, ["quick fox"]),
        ({"prompt": "the lazy dog", "hotwords": "fox"}, ["fox", "the lazy dog"]),
    ],
)
def test_every_window_begins_with_the_hotwords_and_the_prompt(loaded, settings, texts, monkeypatch):
    # Random weights would be made to try each temperature.
    once = {**FALLBACK, "temperature": (0.0,), "logprob_threshold": -1e9}
    monkeypatch.setattr("echo.transcribe.transcribe.FALLBACK", once)
    first, found = prompts(loaded, **settings)
    expected = told(loaded, *texts)
    assert len(first) >= 3  # windows
    # Decoding goes on with what is written; language detection reads the start token alone.
    assert all(ids[: len(expected)] == expected for ids in first)
    written = " ".join(transcript.text for transcript in found)
    assert "lazy dog" not in written


def test_hotwords_stay_and_the_end_of_the_prompt_counts(loaded, caplog):
    with caplog.at_level(logging.WARNING):
        transcriber = Transcriber(
            loaded, TranscribeSettings(prompt="the quick brown fox " * 9, hotwords="lazy dog")
        )
    text = loaded.tokenizer.decode(transcriber.prompt[1:])
    assert len(transcriber.prompt) == MOST
    hotwords = " lazy dog"
    assert text == hotwords + (" the quick brown fox" * 9)[-(MOST - 1 - len(hotwords)) :]
    assert "cut from 189 to 29 tokens" in caplog.text
    caplog.clear()
    Transcriber(loaded, TranscribeSettings(prompt="fox"))
    assert not caplog.text
    long = Transcriber(loaded, TranscribeSettings(prompt="fox", hotwords="dog " * 20)).prompt
    assert loaded.tokenizer.decode(long[1:]) == (" dog" * 20)[: MOST - 1]


def test_what_no_prompt_can_hold_is_refused(loaded):
    with pytest.raises(ConfigError, match=r"cannot hold the special token <\|endoftext\|>"):
        Transcriber(loaded, TranscribeSettings(prompt="the <|endoftext|> fox"))
    for settings in ({"prompt": "one"}, {"hotwords": "one"}):
        with pytest.raises(ConfigError, match="only Whispers take a prompt and hotwords"):
            Transcriber(untrained(), TranscribeSettings(**settings))


def test_silence_is_not_filled_with_the_prompt(loaded):
    silence = torch.zeros(16_000)
    transcriber = Transcriber(loaded, TranscribeSettings(prompt="the lazy dog"))
    assert transcriber.transcribe([silence], lambda seconds: None)[0].text == ""
