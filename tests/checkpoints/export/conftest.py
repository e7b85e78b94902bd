"""A small model with Whisper's own vocabulary."""

import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration, WhisperProcessor

D = 32  # its width


@pytest.fixture(scope="session")
def english(shared, tmp_path_factory):
    """A random Whisper with the vocabulary of the English ones."""
    torch.manual_seed(0)
    real = shared / "models" / "whisper-tiny.en"
    config = WhisperConfig.from_pretrained(
        real,
        d_model=D,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=4 * D,
        decoder_ffn_dim=4 * D,
    )
    path = tmp_path_factory.mktemp("models") / "small"
    WhisperForConditionalGeneration(config).save_pretrained(path)
    WhisperProcessor.from_pretrained(real).save_pretrained(path)
    return path
