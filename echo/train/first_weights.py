"""The first weights of a model from scratch, which models of one seed share."""

import copy

import torch

from echo.model.config import EchoConfig
from echo.model.model import EchoForConditionalGeneration
from echo.model.whisper_names import whisper_names


def fresh_model(config: EchoConfig, conv_gain: float) -> EchoForConditionalGeneration:
    """Returns a model that starts with the weights that a Whisper of the same seed would have, as
    far as both have them. So two models of one seed differ in their attention and not by luck: how
    fast a small model learns to align depends more on its first weights than on its attention."""
    plain = copy.deepcopy(config)
    plain.attention = {"encoder": "plain", "decoder": "plain"}
    twin = EchoForConditionalGeneration(plain)
    with torch.no_grad():
        for conv in (twin.model.encoder.conv1, twin.model.encoder.conv2):
            conv.weight.mul_(conv_gain)
    whisper = twin.state_dict()
    model = EchoForConditionalGeneration(config)
    names = whisper_names(model)
    model.load_state_dict(
        {key: whisper[name] for key, name in names.items() if name in whisper}, strict=False
    )
    return model
