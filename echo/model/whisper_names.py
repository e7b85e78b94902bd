"""Maps an Echo model to a Whisper of the same size: its config and the names of its weights."""

import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from echo.attention.base import FocusedAttention
from echo.model.config import EchoConfig
from echo.model.model import EchoForConditionalGeneration


def plain_config(config: WhisperConfig) -> WhisperConfig:
    """Converts a Whisper or Echo config to a Whisper config, without Echo's own settings."""
    own = set(EchoConfig.__dataclass_fields__) - set(WhisperConfig.__dataclass_fields__)
    content = {k: v for k, v in config.to_dict().items() if k not in own}
    content |= {"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"]}
    return WhisperConfig(**content)


def new_parameters(model: EchoForConditionalGeneration) -> set[str]:
    """Returns the names of the parameters that have no counterpart in a Whisper of the same size:
    gains, span predictors, a CTC head."""
    with torch.device("meta"):
        whisper = WhisperForConditionalGeneration(plain_config(model.config)).state_dict()
    names = whisper_names(model)
    return {name for name, _ in model.named_parameters() if names[name] not in whisper}


def whisper_names(model: EchoForConditionalGeneration) -> dict[str, str]:
    """Maps each weight of an Echo model to the Whisper weight that initialises it. A weight that
    Whisper does not have maps to its own name, and is initialised as in a new model."""
    names = {key: key for key in model.state_dict()}
    for place, block in model.named_modules():
        if isinstance(block, FocusedAttention):
            layer = place.removesuffix("self_attn")
            for key in block.state_dict():
                for own, taken in block.whisper_names.items():
                    if key.startswith(own):
                        names[f"{place}.{key}"] = layer + taken + key.removeprefix(own)
    return names
