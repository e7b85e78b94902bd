"""A folder as OpenAI's models have on the hub, which earlier versions of `transformers` read too,
and the tools that read its files themselves."""

import json
from pathlib import Path
from typing import Any

from transformers import WhisperConfig, WhisperTokenizer

from echo.checkpoints.card import TASK
from echo.checkpoints.export.target import Source, Target, Write
from echo.checkpoints.layers import upper_heads
from echo.checkpoints.run import feature_extractor
from echo.checkpoints.stored import Checkpoint
from echo.support.files import read_object, replace_text


def write_whisper(
    checkpoint: Checkpoint, config: WhisperConfig, tokenizer: WhisperTokenizer, folder: Path
) -> None:
    """Writes a checkpoint's weights and everything that goes with them into a folder."""
    tensors = {key: stored.load() for key, stored in checkpoint.untied_weights(config).items()}
    checkpoint.write_model(folder, config, tensors)
    write_tokenizer(tokenizer, folder)
    write_preprocessor(config, folder)
    write_alignment_heads(config, folder)


def write_tokenizer(tokenizer: WhisperTokenizer, folder: Path) -> None:
    """Writes the tokenizer's files of now, and those in which it was split before."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = read_object(path)
    # Earlier versions take a list of tokens under this name alone; the present one takes it too.
    settings["additional_special_tokens"] = settings.pop("extra_special_tokens", [])
    write_json(path, settings)

    tokenizer.backend_tokenizer.model.save(str(folder))  # vocab.json and merges.txt
    added = tokenizer.get_added_vocab()
    vocabulary = read_object(folder / "vocab.json")
    vocabulary = {token: i for token, i in vocabulary.items() if token not in added}
    # OpenAI's vocab.json has the first special token too.
    end = str(tokenizer.eos_token)
    write_json(folder / "vocab.json", vocabulary | {end: tokenizer.eos_token_id})
    added.pop(end, None)
    write_json(folder / "added_tokens.json", added)
    special = {key: str(token) for key, token in tokenizer.special_tokens_map.items()}
    special["additional_special_tokens"] = settings["additional_special_tokens"]
    write_json(folder / "special_tokens_map.json", special)
    write_json(folder / "normalizer.json", tokenizer.english_spelling_normalizer or {})


def write_preprocessor(config: WhisperConfig, folder: Path) -> None:
    """Writes what faster-whisper and earlier versions read of the features."""
    path = folder / "preprocessor_config.json"
    settings = feature_extractor(config).to_dict() | {"processor_class": "WhisperProcessor"}
    settings.pop("mel_filters", None)
    if (folder / "processor_config.json").exists():
        settings |= read_object(folder / "processor_config.json").get("feature_extractor", {})
    if path.exists():
        settings |= read_object(path)
    write_json(path, settings)


def write_alignment_heads(config: WhisperConfig, folder: Path) -> None:
    """Names the heads that tell when words are said; see `upper_heads`."""
    path = folder / "generation_config.json"
    content = read_object(path) if path.exists() else {}
    if content.get("alignment_heads") is None:
        content["alignment_heads"] = upper_heads(config)
    content.pop("_from_model_config", None)  # with it, `transformers` ignores the heads
    write_json(path, content)


def write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False)
    replace_text(path, text + "\n")


def prepare(source: Source, precision: str | None) -> Write:
    """Raises EchoError where the model is not a Whisper."""
    config, tokenizer = source.as_whisper()
    return lambda folder: write_whisper(source.checkpoint, config, tokenizer, folder)


TARGET = Target(
    "whisper",
    "in OpenAI's format for `transformers`",
    f"""\
from transformers import pipeline

pipeline("{TASK}", model=".")("recording.wav", return_timestamps="word")
""",
    prepare,
    library="transformers",
)
