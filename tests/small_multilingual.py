"""A small multilingual Whisper with random weights: prompts and timestamps as in the real ones."""

import json

import torch
from transformers import WhisperTokenizer
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from echo.data.tokenizer import train_tokenizer
from tests.small_whisper import edit, small_whisper

SPECIAL = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{code}|>" for code in LANGUAGES),
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
]
TIMESTAMPS = 1501  # ids after <|notimestamps|>, which are no tokens of the tokenizer


def small_tokenizer(**prompt):
    """Of characters, in Whisper's order; `prompt` is its language and task, if any."""
    base = train_tokenizer(["the quick brown fox jumps over the lazy dog 0123456789"])
    content = json.loads(base.backend_tokenizer.to_str())["model"]
    vocab = {token: i for token, i in content["vocab"].items() if not token.startswith("<|")}
    assert sorted(vocab.values()) == list(range(len(vocab)))
    for token in SPECIAL:
        vocab[token] = len(vocab)
    merges = [tuple(merge) for merge in content["merges"]]
    return WhisperTokenizer(
        vocab=vocab,
        merges=merges,
        pad_token="<|endoftext|>",
        extra_special_tokens=SPECIAL[1:],
        **prompt,
    )


def save_multilingual(folder, is_multilingual=True, **changes):
    """A folder as those of the hub, of windows of 30 s unless `changes` say otherwise."""
    tokenizer = small_tokenizer()
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    torch.manual_seed(0)
    sizes = {
        "vocab_size": len(tokenizer) + TIMESTAMPS,
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "max_source_positions": 1500,
        "max_target_positions": 448,
        "pad_token_id": ids["<|endoftext|>"],
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|endoftext|>"],
        "decoder_start_token_id": ids["<|startoftranscript|>"],
    }
    small_whisper(**{**sizes, **changes}).save_pretrained(folder)
    generation = {
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "prev_sot_token_id": ids["<|startofprev|>"],
        "is_multilingual": is_multilingual,
        "max_length": changes.get("max_target_positions", 448),
        "alignment_heads": [[0, 0]],
        # So that random weights write some text.
        "suppress_tokens": [*range(ids["<|startoftranscript|>"], sizes["vocab_size"])],
        "begin_suppress_tokens": [ids["<|endoftext|>"]],
    }
    if is_multilingual:
        generation["lang_to_id"] = {f"<|{code}|>": ids[f"<|{code}|>"] for code in LANGUAGES}
        generation["task_to_id"] = {t: ids[f"<|{t}|>"] for t in ("transcribe", "translate")}
    edit("generation_config.json", **generation, _from_model_config=False)(folder)
    tokenizer.save_pretrained(folder)
    return folder
