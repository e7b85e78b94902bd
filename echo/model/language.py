"""The language of a model: set for a multilingual Whisper, with its task, and known of others."""

import re
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

from echo.model.timestamps import TIMESTAMPS
from echo.support.errors import ConfigError

ENGLISH = ("en", "english")
Task = Literal["transcribe", "translate"]
MULTILINGUAL_SIZE = 51865  # the smallest vocabulary of a multilingual Whisper


def known_languages(generation: Any) -> dict[str, int]:
    """Maps the language tokens of a multilingual model, such as "<|de|>", to their ids. Empty if
    the model's prompt has no language, as in English-only Whispers."""
    if getattr(generation, "is_multilingual", None) is False:
        return {}
    return getattr(generation, "lang_to_id", None) or {}


def complete_languages(generation: Any, ids: Mapping[str, int], size: int) -> None:
    """Fills in what the generation config of an older checkpoint does not say, by a tokenizer's
    `ids` and the `size` of the model's vocabulary: timestamps, languages and tasks."""

    def lacks(key: str) -> bool:
        return getattr(generation, key, None) is None

    without = ids.get("<|notimestamps|>", size)
    if lacks("no_timestamps_token_id") and without + TIMESTAMPS < size:
        generation.no_timestamps_token_id = without
    if lacks("is_multilingual"):
        if not lacks("lang_to_id") or (size >= MULTILINGUAL_SIZE and "<|transcribe|>" in ids):
            generation.is_multilingual = True
        elif size == MULTILINGUAL_SIZE - 1:
            generation.is_multilingual = False
    if getattr(generation, "is_multilingual", None):
        if not getattr(generation, "lang_to_id", None):
            generation.lang_to_id = {t: i for t, i in ids.items() if is_language_token(t)}
        if not getattr(generation, "task_to_id", None):
            tasks = {task: ids.get(f"<|{task}|>") for task in get_args(Task)}
            generation.task_to_id = {task: i for task, i in tasks.items() if i is not None}


def is_language_token(token: str) -> bool:
    """Returns whether a token such as "<|de|>" names a language: one of Whisper's, or another by
    its code of two letters."""
    code = token[2:-2]
    return token == f"<|{code}|>" and (code in LANGUAGES or bool(re.fullmatch("[a-z]{2}", code)))


def bare(language: str) -> str:
    """Returns a language without the marks of its token, in lower case: "de" for "<|de|>"."""
    return language.strip("<|>").lower()


def code_among(languages: Mapping[str, int], language: str) -> str | None:
    """Returns the code by which a model that knows these languages has one of them: "de" for "de",
    "<|de|>", "German" or "de-AT". None if it does not."""
    name = bare(language)
    codes = {bare(token): token.strip("<|>") for token in languages}
    found = (TO_LANGUAGE_CODE.get(name, name), re.split("[-_]", name)[0])
    return next((codes[code] for code in found if code in codes), None)


def known_code(language: str) -> str | None:
    """Returns the code of a language that Whisper knows, "de" for "de", "<|de|>", "German" or
    "de-AT". None for any other."""
    name = bare(language)
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
        why = not_multilingual(generation)
        raise ConfigError(f"{source}: does not take the language {language!r}, because {why}")
    found = code_among(known, language)
    if found is None:
        there = ", ".join(token.strip("<|>") for token in known)
        raise ConfigError(f"{source}: knows no language {language!r}; it knows: {there}")
    return found


def not_multilingual(generation: Any) -> str:
    """Returns why a model without languages has none, as far as its generation config says."""
    if getattr(generation, "is_multilingual", None) is False:
        return "it is not multilingual"
    return "its generation config is outdated: it has no lang_to_id"


def transcript_code(language: str, key: str) -> str:
    """Returns the code of the language of transcripts, which need not be one that Whisper knows.
    Raises ConfigError, which begins with `key`, where it is neither a code nor a known name."""
    code = known_code(language) or bare(language)
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
    if not is_from_scratch(generation):
        tokenizer.set_prefix_tokens(predict_timestamps=False)
    if not is_multilingual(model):
        if language is not None and is_from_scratch(generation):
            generation.transcript_language = language_code(generation, language, source)
            language = None
        for wanted in (language, task):
            if wanted is not None and bare(wanted) not in (*ENGLISH, "transcribe"):
                raise ConfigError(
                    f"{source}: cannot do {wanted!r}, because {not_multilingual(generation)}"
                )
        for key, plain in (("language", ENGLISH), ("task", ("transcribe",))):
            saved = getattr(generation, key, None)
            if saved is not None and bare(saved) not in plain:
                raise ConfigError(
                    f"{source}: its generation config has the {key} {saved!r}, but "
                    f"{not_multilingual(generation)}"
                )
        tokenizer.language = tokenizer.task = None
        tokenizer.set_prefix_tokens()
        return
    told, todo = forced_prompt(generation, tokenizer.get_vocab())
    language = language or spoken_language(generation) or told or tokenizer.language
    wanted = task or getattr(generation, "task", None) or todo or tokenizer.task
    if language is None and wanted is None:
        return
    wanted = wanted or "transcribe"
    if wanted not in generation.task_to_id:
        raise ConfigError(f"{source}: does not know the task {wanted!r}: it has no token for it")
    generation.task = wanted
    tokenizer.set_prefix_tokens(task=wanted)
    if language is None:
        return
    code = language_code(generation, language, source)
    token = f"<|{code}|>"
    if tokenizer.get_vocab().get(token) != generation.lang_to_id[token]:
        raise ConfigError(f"{source}: knows no language {language!r}: its tokenizer lacks {token}")
    # transformers knows the codes of Whisper's languages alone, and those of others as tokens.
    generation.language = code if code in LANGUAGES else token
    tokenizer.language = None
    if code in LANGUAGES:
        tokenizer.set_prefix_tokens(language=code)


def forced_prompt(generation: Any, ids: Mapping[str, int]) -> tuple[str | None, str | None]:
    """Returns the code of the language and the task that an older generation config gives as
    `forced_decoder_ids`; None for what it leaves open. `ids` are the tokenizer's."""
    forced = {token for _, token in getattr(generation, "forced_decoder_ids", None) or []}
    languages = known_languages(generation).items()
    language = next((t for t, i in languages if i in forced and ids.get(t) == i), None)
    task = next((t for t, i in generation.task_to_id.items() if i in forced), None)
    return language and language.strip("<|>"), task


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
    named = language and (code_among(known_languages(generation), language) or known_code(language))
    return named or spoken_language(generation)


def spoken_language(generation: Any) -> str | None:
    """Returns the code of the spoken language in a generation config: English for a Whisper of
    English alone. None if a multilingual model has no language set, or if it is unknown."""
    if is_from_scratch(generation):
        return getattr(generation, "transcript_language", None)
    if getattr(generation, "is_multilingual", None) is False:
        return "en"
    language = getattr(generation, "language", None)
    return language and language.strip("<|>")


def detected_language(model: Any, tokenizer: Any, features: torch.Tensor) -> str:
    """Detects the language of a recording (1, n_mels, frames) with a multilingual model, and
    returns its code."""
    [token] = model.detect_language(features, num_segment_frames=features.shape[-1])
    return tokenizer.convert_ids_to_tokens(int(token)).strip("<|>")
