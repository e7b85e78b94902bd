"""Fine-tuning with low-rank adapters (LoRA), by peft."""

from typing import Any

import torch

from echo.config import LoraSettings
from echo.model.model import EchoForConditionalGeneration
from echo.model.whisper import new_parameters
from echo.support.errors import ConfigError


def add_adapters(model: EchoForConditionalGeneration, settings: LoraSettings) -> None:
    """Adds adapters to the target linear layers, in place. Only adapters and new parameters, those
    that a Whisper checkpoint lacks, are trained; a low rank is not enough for the latter.

    Raises:
        ConfigError: peft is not installed, or the model has none of the target layers.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ConfigError(
            "lora: needs peft, which is not installed: pip install 'echo-asr[lora]'"
        ) from None
    new = new_parameters(model)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.targets,
    )
    try:
        inject_adapter_in_model(config, model)
    except ValueError as error:
        raise ConfigError(f"lora: {error}") from None
    for name, parameter in model.named_parameters():
        if name in new:
            parameter.requires_grad_(True)


def trained_state(model: EchoForConditionalGeneration) -> dict[str, torch.Tensor]:
    """The weights that are trained, by name."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def merged(model: EchoForConditionalGeneration) -> EchoForConditionalGeneration:
    """A plain model with the adapters merged into its weights. Other weights are shared with
    `model`."""
    from peft.tuners.lora import Linear

    weights = {
        name.replace(".base_layer", ""): weight
        for name, weight in model.state_dict().items()
        if ".lora_" not in name
    }
    adapted: dict[str, Any] = {n: m for n, m in model.named_modules() if isinstance(m, Linear)}
    for name, layer in adapted.items():
        added = torch.stack([layer.get_delta_weight(a) for a in layer.active_adapters]).sum(0)
        weights[f"{name}.weight"] = layer.get_base_layer().weight.detach() + added.detach()
    with torch.device("meta"):  # draws no random numbers, which would change training
        plain = EchoForConditionalGeneration(model.config)
    plain.load_state_dict(weights, assign=True)
    plain.tie_weights()
    plain.generation_config = model.generation_config
    return plain
