"""The language of a model: set for a multilingual Whisper, with its task, and known of others."""

import re
from typing import Any, Literal

import torch
from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

from echo.support.errors import ConfigError

Task = Literal["transcribe", "translate"]


def known_languages(generation: Any) -> dict[str, int]:
    """Maps the language tokens of a multilingual model, such as "<|de|>", to their ids. Empty if
    the model's prompt has no language, as in English-only Whispers."""
    if getattr(generation, "is_multilingual", None) is False:
        return {}
    return getattr(generation, "lang_to_id", None) or {}


def known_code(language: str) -> str | None:
    """Returns the code of a language that Whisper knows, "de" for "de", "German" or "de-AT". None
    for any other."""
    name = language.lower()
    code = TO_LANGUAGE_CODE.get(name, name)
    return next((c for c in (code, re.split("[-_]", code)[0]) if c in LANGUAGES), None)


def is_multilingual(model: Any) -> bool:
    """Whether the model's prompt names a language and a task."""
    return bool(known_languages(model.generation_config))


def is_from_scratch(generation: Any) -> bool:
    """Whether this is the generation config of a model that Echo trained from scratch, which knows
    no languages and no timestamps. Every Whisper knows timestamps, one of English alone too."""
    only_one = getattr(generation, "is_multilingual", None) is False
    return only_one and not hasattr(generation, "no_timestamps_token_id")


def language_code(generation: Any, language: str, source: str) -> str:
    """Returns the code of a language, "de" for "de" or "German". Raises ConfigError where the
    model, which `source` names, does not know it or cannot be told any. A model from scratch knows
    that of its transcripts, or any if it was told none."""
    known = known_languages(generation)
    if is_from_scratch(generation):
        own = getattr(generation, "transcript_language", None)
        code = transcript_code(language, source)
        if own not in (None, code):
            raise ConfigError(f"{source}: knows no language {language!r}; it knows: {own}")
        return code
    if not known:
        raise ConfigError(
            f"{source}: is not multilingual: it does not take the language {language!r}"
        )
    code = TO_LANGUAGE_CODE.get(language.lower(), language.lower())
    if f"<|{code}|>" not in known:
        there = ", ".join(token.strip("<|>") for token in known)
        raise ConfigError(f"{source}: knows no language {language!r}; it knows: {there}")
    return code


def transcript_code(language: str, key: str) -> str:
    """Returns the code of the language of transcripts, which need not be one that Whisper knows.
    Raises ConfigError, which begins with `key`, where it is neither a code nor a known name."""
    code = known_code(language) or language.lower()
    if not re.fullmatch("[a-z]{2,3}", code):
        raise ConfigError(f"{key}: {language!r} is not a language; give a code such as 'de'")
    return code


def set_language(
    model: Any, tokenizer: Any, source: str, language: str | None, task: Task | None
) -> None:
    """Sets the language and task of a multilingual model and of its tokenizer's prompts.

    Both settings are saved with the model and tokenizer. A missing argument keeps the checkpoint's
    setting. If the checkpoint has no task, the task is transcribing. If there is no language at
    all, decoding still detects it. A model from scratch keeps the language as that of its
    transcripts. Raises ConfigError, which begins with `source`, where the model does not know the
    language, or is not multilingual."""
    generation = model.generation_config
    if not is_multilingual(model):
        if language is not None and is_from_scratch(generation):
            generation.transcript_language = language_code(generation, language, source)
            language = None
        for wanted in (language, task):
            if wanted not in (None, "en", "english", "transcribe"):
                raise ConfigError(f"{source}: cannot do {wanted!r}, because it is not multilingual")
        return
    language = language or getattr(generation, "language", None) or tokenizer.language
    task = task or getattr(generation, "task", None) or tokenizer.task
    if language is None and task is None:
        return
    if language is not None:
        code = language_code(generation, language, source)
        token = f"<|{code}|>"
        if tokenizer.get_vocab().get(token) != generation.lang_to_id[token]:
            raise ConfigError(
                f"{source}: knows no language {language!r}: its tokenizer lacks {token}"
            )
        generation.language = code
        tokenizer.set_prefix_tokens(language=code)
    generation.task = task or "transcribe"
    tokenizer.set_prefix_tokens(task=generation.task)


def written_language(
    model: Any, language: str | None = None, task: str | None = None
) -> str | None:
    """Like `language_of_text`, of a model, for a row that may name its own language and task."""
    return language_of_text(model.generation_config, language, task)


def language_of_text(
    generation: Any, language: str | None = None, task: str | None = None
) -> str | None:
    """Returns the code of the language that a model with this generation config writes: the
    configured one, English for a Whisper of English alone, or that of a model from scratch's
    transcripts. None if unknown."""
    if (task or getattr(generation, "task", None)) == "translate":
        return "en"
    return known_code(language or "") or spoken_language(generation)


def spoken_language(generation: Any) -> str | None:
    """Returns the code of the spoken language in a generation config: English for a Whisper of
    English alone. None if a multilingual model has no language set, or if it is unknown."""
    if is_from_scratch(generation):
        return getattr(generation, "transcript_language", None)
    if getattr(generation, "is_multilingual", None) is False:
        return "en"
    return getattr(generation, "language", None)


def detected_language(model: Any, tokenizer: Any, features: torch.Tensor) -> str:
    """Detects the language of a recording (1, n_mels, frames) with a multilingual model, and
    returns its code."""
    [token] = model.detect_language(features, num_segment_frames=features.shape[-1])
    return tokenizer.convert_ids_to_tokens(int(token)).strip("<|>")
