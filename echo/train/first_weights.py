"""The first weights of a model from scratch, which models of one seed share."""

from zlib import crc32

import torch

from echo.model.config import EchoConfig
from echo.model.model import EchoForConditionalGeneration
from echo.model.whisper_names import whisper_names


def fresh_model(config: EchoConfig, conv_gain: float) -> EchoForConditionalGeneration:
    """Returns a model each of whose modules starts as its Whisper name and the seed have it,
    whatever the rest of the model is. So two models of one seed differ in their attention or
    sizes and not by luck: how fast a small model learns to align depends more on its first weights
    than on its attention."""
    model = EchoForConditionalGeneration(config)
    seed, names = torch.initial_seed(), whisper_names(model)
    drawn = dict(model.named_parameters())  # without proj_out, which shares the embedding's
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for place, module in model.named_modules():
            own = [n for n, _ in module.named_parameters(place, recurse=False) if n in drawn]
            if own:
                torch.manual_seed(crc32(f"{seed} {names[own[0]]}".encode()))
                model._init_weights(module)
        for conv in (model.model.encoder.conv1, model.model.encoder.conv2):
            conv.weight.mul_(conv_gain)
    return model
