"""Fine-tuning with low-rank adapters (LoRA), by peft."""

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from echo.checkpoints.stored import EMBEDDINGS, TIED
from echo.config import LoraSettings
from echo.model.model import EchoForConditionalGeneration
from echo.model.whisper_names import new_parameters
from echo.support.errors import ConfigError
from echo.train.build import with_weights

ADAPTER = "default"  # peft's name for the only one
ADAPTED = (nn.Linear, nn.Conv1d, nn.Embedding)  # kinds of layers


def add_adapters(model: EchoForConditionalGeneration, settings: LoraSettings) -> None:
    """Adds adapters to the target layers, in place. Only adapters and new parameters, those that a
    Whisper checkpoint lacks, are trained; a low rank is not enough for the latter. ConfigError if
    peft is not installed, or a target is not there or takes no adapter."""
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
        use_dora=settings.dora,
        use_rslora=settings.rank_stabilised,
        target_modules=settings.targets,
    )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*tied")  # `merged` unties the weights
            inject_adapter_in_model(config, model)
    except ValueError as error:
        raise ConfigError(f"lora: {error}") from None
    adapted = adapted_layers(model)
    for target in settings.targets:
        if not any(f".{name}".endswith(f".{target}") for name in adapted):
            raise ConfigError(f"lora.targets: no layer of the model is named {target!r}")
    for name, layer in adapted.items():
        if type(layer.get_base_layer()) not in ADAPTED:
            raise ConfigError(f"lora.targets: {name} cannot have an adapter; name other layers")
    for name, parameter in model.named_parameters():
        if name.replace(".base_layer", "") in new:
            parameter.requires_grad_(True)


def trained_state(model: EchoForConditionalGeneration) -> dict[str, torch.Tensor]:
    """What training changes, by name: the weights that are trained, and the buffers, in which a
    refiner learns without gradients."""
    trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    return trained | dict(model.named_buffers())


def adapted_layers(model: nn.Module) -> dict[str, Any]:
    """The layers that have adapters, by name."""
    from peft.tuners.lora import LoraLayer

    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}


def merged(model: EchoForConditionalGeneration) -> EchoForConditionalGeneration:
    """A plain model with the adapters merged into its weights. Other weights are shared with
    `model`. An output projection that is tied to the embeddings is so no more where one of them has
    an adapter of its own."""
    weights = {
        name.replace(".base_layer", ""): weight
        for name, weight in model.state_dict().items()
        if ".lora_" not in name
    }
    config = copy.deepcopy(model.config)
    for name, layer in adapted_layers(model).items():
        own = copy.deepcopy(layer)
        own.merge()
        weights[f"{name}.weight"] = own.get_base_layer().weight.detach()
        if f"{name}.weight" in (TIED, EMBEDDINGS):
            config.tie_word_embeddings = False
    return with_weights(model, config, weights)


def save_adapter(model: EchoForConditionalGeneration, base: str, folder: Path) -> None:
    """Writes all that is trained as a folder that `PeftModel.from_pretrained` loads onto `base`,
    the model that training began with."""
    from peft import get_peft_model_state_dict

    config = copy.deepcopy(model.peft_config[ADAPTER])
    config.base_model_name_or_path = base
    config.inference_mode = True
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    # peft loads others with the adapters: new parameters, and what a refiner learned.
    weights |= {n: p for n, p in trained_state(model).items() if ".lora_" not in n}
    config.save_pretrained(folder)
    save_file(
        {f"base_model.model.{name}": weight.contiguous() for name, weight in weights.items()},
        folder / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
