"""What a program of its own needs beside a model's ONNX graphs: tokens, mel filters, and how audio
and prompt are given to the model."""

from pathlib import Path
from typing import Any

import numpy as np

from echo.checkpoints.export.whisper import write_json
from echo.data.features import filters
from echo.model.geometry import ENCODER_STRIDE, FRAMES_PER_SECOND
from echo.model.language import known_languages
from echo.model.model import EchoForConditionalGeneration

SETTINGS_FILE = "transcribe.json"
FILTERS_FILE = "mel_filters.npy"


def write_transcription(model: EchoForConditionalGeneration, tokenizer: Any, folder: Path) -> None:
    """Writes `tokenizer.json`, the mel filters (n_mels, 201), and `transcribe.json`:

    `prompt`: the first tokens; `languages`: where a language is to follow the first of them, its
    token by code; `end`, `suppress`, `begin_suppress`: the token that ends the text, and those
    that are never written, or not at the start; `max_tokens`: the most, prompt included;
    `pad_to_seconds`, `added_silence`: the least length of recording and silence, and of the
    silence, in seconds; `max_seconds`: the most audio.
    """
    config = model.config
    generation: Any = model.generation_config
    prompt = list(tokenizer.prefix_tokens)
    languages = {}
    if known_languages(generation) and tokenizer.language is None:
        languages = {key.strip("<|>"): i for key, i in known_languages(generation).items()}
        if tokenizer.task is None:
            prompt.insert(1, generation.task_to_id["transcribe"])
    settings = {
        "prompt": prompt,
        "languages": languages,
        "end": tokenizer.eos_token_id,
        "suppress": generation.suppress_tokens or [],
        "begin_suppress": generation.begin_suppress_tokens or [],
        "max_tokens": config.max_target_positions,
        "pad_to_seconds": config.pad_to_seconds or 0,
        "added_silence": config.added_silence,
        "max_seconds": ENCODER_STRIDE * config.max_source_positions / FRAMES_PER_SECOND,
    }
    write_json(folder / SETTINGS_FILE, settings)
    np.save(folder / FILTERS_FILE, filters(config.num_mel_bins).numpy())
    tokenizer.save_pretrained(folder)
