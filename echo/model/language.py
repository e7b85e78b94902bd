"""Which language a multilingual Whisper hears, and whether it transcribes or translates."""

from typing import Any, Literal

import torch
from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

from echo.support.errors import ConfigError

Task = Literal["transcribe", "translate"]


def known_languages(generation: Any) -> dict[str, int]:
    """The tokens of the languages that a multilingual model knows, "<|de|>", with their ids; none
    where its prompt names no language, as those of English-only Whispers do not."""
    if getattr(generation, "is_multilingual", None) is False:
        return {}
    return getattr(generation, "lang_to_id", None) or {}


def is_multilingual(model: Any) -> bool:
    """Whether the model's prompt names a language and a task."""
    return bool(known_languages(model.generation_config))


def language_code(generation: Any, language: str, source: str) -> str:
    """The code of a language that a model is told.

    Args:
        language: a code or a name, "de" or "German".
        source: what errors call the model.

    Raises:
        ConfigError: the model does not know the language, or is not multilingual.
    """
    known = known_languages(generation)
    if not known:
        raise ConfigError(f"{source}: is not multilingual: it cannot be told {language!r}")
    code = TO_LANGUAGE_CODE.get(language.lower(), language.lower())
    if f"<|{code}|>" not in known:
        there = ", ".join(token.strip("<|>") for token in known)
        raise ConfigError(f"{source}: knows no language {language!r}; it knows: {there}")
    return code


def set_language(
    model: Any, tokenizer: Any, source: str, language: str | None, task: Task | None
) -> None:
    """Lets a multilingual model decode, and its tokenizer begin transcripts, with a language and
    a task; both are saved with them. What is not given is as the checkpoint has it, and the task
    transcribing where that says nothing. Without any language, decoding goes on to detect it.

    Args:
        source: what errors call the model.
        language: a code or a name, "de" or "german".

    Raises:
        ConfigError: the model does not know the language, or is not multilingual.
    """
    generation = model.generation_config
    if not is_multilingual(model):
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


def written_language(model: Any) -> str | None:
    """The code of the language that a model writes: what it is told, or English where it knows
    nothing else; None where nothing says."""
    generation = model.generation_config
    only_english = getattr(generation, "is_multilingual", None) is False
    return "en" if only_english else told_language(generation)


def spoken_language(generation: Any) -> str | None:
    """The code of the language that a generation config has heard: English where it knows nothing
    else; None where a model of several is told none, or nothing says what it knows."""
    if getattr(generation, "is_multilingual", None) is False:
        return "en"
    return getattr(generation, "language", None)


def told_language(generation: Any) -> str | None:
    """The code of the language that a generation config has written, where it names one."""
    translates = getattr(generation, "task", None) == "translate"
    return "en" if translates else getattr(generation, "language", None)


def detected_language(model: Any, tokenizer: Any, features: torch.Tensor) -> str:
    """The code of the language of a recording, (1, n_mels, frames), by a multilingual model."""
    [token] = model.detect_language(features, num_segment_frames=features.shape[-1])
    return tokenizer.convert_ids_to_tokens(int(token)).strip("<|>")
