"""What the checks look at: models of Whisper's sizes with random weights, batches, recordings."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from rows import Place
from transformers import (
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)

from echo.config import RunConfig
from echo.data.loading import Batch
from echo.data.tokenizer import train_tokenizer
from echo.data.utterance import Utterance
from echo.model.config import EchoConfig
from echo.model.model import EchoForConditionalGeneration
from echo.support.settings import build, merge
from echo.train.build import build_model
from echo.train.loop import Trainer

# Dimensions, heads, layers.
SIZES = {"quick": (32, 2, 2), "tiny": (384, 6, 4), "base": (512, 8, 6), "small": (768, 12, 12)}
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]
TOKENIZER = train_tokenizer([" ".join(WORDS)])
TOKENS = 40  # of a transcript


def size_here(place: Place, size: str = "tiny") -> str:
    return "quick" if place.quick else size


def sizes(size: str, vocabulary: int = 51865) -> dict[str, Any]:
    dims, heads, layers = SIZES[size]
    return {
        "vocab_size": vocabulary if size != "quick" else min(vocabulary, 200),
        "d_model": dims,
        "encoder_layers": layers,
        "decoder_layers": layers,
        "encoder_attention_heads": heads,
        "decoder_attention_heads": heads,
        "encoder_ffn_dim": 4 * dims,
        "decoder_ffn_dim": 4 * dims,
        "pad_token_id": TOKENIZER.pad_token_id,
        "bos_token_id": TOKENIZER.bos_token_id,
        "eos_token_id": TOKENIZER.eos_token_id,
        "decoder_start_token_id": TOKENIZER.convert_tokens_to_ids("<|startoftranscript|>"),
        "suppress_tokens": None,
        "begin_suppress_tokens": None,
    }


def echo(size: str, encoder: Any, decoder: Any = "plain") -> EchoForConditionalGeneration:
    torch.manual_seed(0)
    attention = {"encoder": encoder, "decoder": decoder}
    return EchoForConditionalGeneration(EchoConfig(**sizes(size), attention=attention))


def whisper(size: str, **more: Any) -> WhisperForConditionalGeneration:
    torch.manual_seed(0)
    return WhisperForConditionalGeneration(WhisperConfig(**{**sizes(size), **more}))


def inputs(count: int, seconds: float, device: torch.device) -> dict[str, torch.Tensor]:
    """Features of which all but the first end a little earlier, and tokens."""
    frames = round(100 * seconds)
    lengths = torch.tensor([frames - 7 * i for i in range(count)])
    return {
        "input_features": torch.randn(count, 80, frames, device=device),
        "attention_mask": (torch.arange(frames) < lengths[:, None]).long().to(device),
        "decoder_input_ids": torch.randint(5, 100, (count, TOKENS), device=device),
        "labels": torch.randint(5, 100, (count, TOKENS), device=device),
    }


def trainer(place: Place, size: str, attention: Any, **changes: Any) -> Trainer:
    """Echo's own, in bf16, of a model from scratch."""
    dims, heads, layers = SIZES[size]
    content = {
        "model": {
            "d_model": dims,
            "heads": heads,
            "encoder_layers": layers,
            "decoder_layers": layers,
            "attention": {"encoder": attention, "decoder": "plain"},
        },
        "data": {"corpus": "fsdd"},
        "train": {"precision": "bf16", "warmup_steps": 0},
    }
    config = build(RunConfig, merge(content, changes), "the check")
    model = build_model(config, TOKENIZER).train()
    return Trainer(config, place.folder, None, model, TOKENIZER)  # type: ignore[arg-type]


def batch(count: int, seconds: float, device: torch.device) -> Batch:
    given = inputs(count, seconds, device)
    given["decoder_input_ids"] %= len(TOKENIZER)
    given["labels"] %= len(TOKENIZER)
    utterances = [Utterance(str(i), None, "", seconds) for i in range(count)]  # type: ignore[arg-type]
    return Batch(utterances, *given.values(), [])


def manifest(place: Place) -> str:
    """Recordings of noise that last 2 to 15 seconds, and as many words a second as people say."""
    folder = place.folder / "recordings"
    path = folder / "all.jsonl"
    if path.exists():
        return str(path)
    folder.mkdir()
    draw, rows = random.Random(0), []
    for i in range(8 if place.quick else 256):
        seconds = draw.uniform(0.5, 1) if place.quick else draw.uniform(2, 15)
        noise = np.random.default_rng(i).normal(0, 0.1, round(16_000 * seconds))
        soundfile.write(folder / f"{i}.flac", noise, 16_000)
        text = " ".join(draw.choices(WORDS, k=max(1, round(2 * seconds))))
        rows.append({"audio_filepath": f"{i}.flac", "text": text, "duration": seconds})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def whisper_folder(place: Place) -> str:
    """A Whisper checkpoint with the tokenizer of the recordings."""
    folder: Path = place.folder / "whisper"
    model = whisper(size_here(place), vocab_size=len(TOKENIZER))
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(), TOKENIZER).save_pretrained(folder)
    return str(folder)
