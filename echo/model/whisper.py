"""An Echo model beside the Whisper of the same sizes: its config, and the names of its weights."""

import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from echo.model.model import EchoForConditionalGeneration

# Where parameters of focused blocks come from in a Whisper layer. What is not named here either
# has Whisper's own name, or is Echo's own and begins as in a new model.
TAKEN_FROM = {
    "self_attn.global_attn.": "self_attn.",
    "self_attn.ln_global.": "self_attn_layer_norm.",
    "self_attn.ln_local.": "self_attn_layer_norm.",
    "self_attn.local_q_proj.": "self_attn.q_proj.",
    "self_attn.local_k_proj.": "self_attn.k_proj.",
    "self_attn.local_v_proj.": "self_attn.v_proj.",
}


def plain_config(config: WhisperConfig) -> WhisperConfig:
    """A Whisper's or an Echo's config as a Whisper's, without what Whisper does not have."""
    echoes = ("attention", "cross_positions", "ctc", "pad_to_seconds", "added_silence")
    content = {k: v for k, v in config.to_dict().items() if k not in echoes}
    content |= {"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"]}
    return WhisperConfig(**content)


def new_parameters(model: EchoForConditionalGeneration) -> set[str]:
    """The names of the parameters for which a Whisper of the same sizes has nothing to begin
    with: gains, span predictors, a CTC head."""
    with torch.device("meta"):
        whisper = WhisperForConditionalGeneration(plain_config(model.config)).state_dict()
    return {name for name, _ in model.named_parameters() if whisper_name(name) not in whisper}


def whisper_name(key: str) -> str:
    """The name in Whisper of the parameter that an Echo model's begins as a copy of."""
    for own, taken in TAKEN_FROM.items():
        key = key.replace(own, taken)
    return key
