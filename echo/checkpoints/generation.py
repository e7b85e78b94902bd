"""Checks a checkpoint's generation config, and finds what in it Echo decides itself."""

from collections.abc import Callable, Mapping
from typing import Any

from transformers import GenerationConfig, WhisperConfig

from echo.model.generation import OF_ITS_LANGUAGES, OF_THE_MODEL, SINGLE_TOKENS, SUPPRESSED
from echo.model.timestamps import TIMESTAMPS
from echo.support.errors import DataError

GENERATION_FILE = "generation_config.json"
# What Whisper's `generate` reads besides the settings of every `GenerationConfig`.
OF_WHISPER = (
    "return_timestamps",
    "return_token_timestamps",
    "condition_on_prev_tokens",
    "compression_ratio_threshold",
    "logprob_threshold",
    "no_speech_threshold",
    "force_unique_generate_call",
)
# Read when a checkpoint is loaded, or of no effect on a text.
NOT_NAMED = ("forced_decoder_ids", "use_cache", "transformers_version", "_from_model_config")

Rule = tuple[Callable[[Any], bool], str]  # whether a value is right, and what a right one is


def check_generation(folder: object, saved: Mapping[str, Any], config: WhisperConfig) -> None:
    """Raises DataError where a value of a generation config is of a wrong kind, or means what the
    model of a config does not have."""
    of = rules(config)
    for key, value in saved.items():
        is_right, right = of.get(key, (lambda _: True, ""))
        if value is not None and not is_right(value):
            raise DataError(f"{folder}/{GENERATION_FILE}: its {key} is not {right}")


def rules(config: WhisperConfig) -> dict[str, Rule]:
    """Returns what the settings that describe a model must be."""
    size = config.vocab_size

    def is_token(value: Any) -> bool:
        return is_below(value, size)

    def is_head(value: Any) -> bool:
        return is_pair(value) and all(type(i) is int for i in value)

    def is_forced(value: Any) -> bool:
        return is_pair(value) and type(value[0]) is int and (value[1] is None or is_token(value[1]))

    def is_table(value: Any) -> bool:
        return isinstance(value, dict) and all(map(is_token, value.values()))

    tokens = f"of the model's {size} tokens"
    table: Rule = is_table, f"a mapping from names to ids {tokens}"
    text: Rule = (lambda value: isinstance(value, str)), "text"
    return {
        **dict.fromkeys(SINGLE_TOKENS, (is_token, f"{tokens}: give the id of one")),
        **dict.fromkeys(SUPPRESSED, (lists(is_token), f"{tokens}: give a list of ids")),
        "alignment_heads": (lists(is_head), "a list of [layer, head]"),
        "forced_decoder_ids": (lists(is_forced), f"a list of [place, id {tokens}]"),
        "lang_to_id": table,
        "task_to_id": table,
        "is_multilingual": (lambda value: isinstance(value, bool), "true or false"),
        "max_initial_timestamp_index": (lambda value: is_below(value, TIMESTAMPS), "a timestamp"),
        "language": text,
        "task": text,
        "transcript_language": text,
    }


def lists(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(is_right, value))


def is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2


def is_below(value: Any, limit: int) -> bool:
    return type(value) is int and 0 <= value < limit


def overridden(generation: GenerationConfig, config: WhisperConfig) -> list[str]:
    """Returns the settings of a generation config that would change how the model decodes, and that
    Echo sets itself."""
    usual = GenerationConfig().to_dict() | GenerationConfig._get_default_generation_params()
    usual |= dict.fromkeys(OF_WHISPER, False)
    usual["max_length"] = config.max_target_positions
    described = (*OF_THE_MODEL, *OF_ITS_LANGUAGES, *NOT_NAMED)
    return [
        key
        for key, value in generation.to_dict().items()
        if key in usual and key not in described and value not in (None, False, usual[key])
    ]
