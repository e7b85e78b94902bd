"""Weights that FSDP shards over the processes, and whole weights where they are needed: a
checkpoint is the same file however its run was sharded, and any run can resume from it."""

import os
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor, distribute_tensor

from echo.config import RunConfig
from echo.model.model import EchoForConditionalGeneration
from echo.support.errors import ConfigError
from echo.train.build import with_weights
from echo.train.losses.registry import weighted_losses

ALLOWED = (
    DistributedType.NO,
    DistributedType.MULTI_CPU,
    DistributedType.MULTI_GPU,
    DistributedType.FSDP,
)


def check_strategy(accelerator: Accelerator, config: RunConfig) -> None:
    """Raises ConfigError if the run cannot be trained with the launcher's strategy."""
    kind = accelerator.distributed_type
    if kind not in ALLOWED:
        raise ConfigError(f"accelerate's {kind.value} cannot train Echo; DDP and FSDP 2 can")
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if not asked:
        return
    if kind != DistributedType.FSDP:
        raise ConfigError("FSDP needs several GPUs, which this launch does not provide")
    if not accelerator.is_fsdp2:
        raise ConfigError("only version 2 of accelerate's FSDP can train Echo: set fsdp_version: 2")
    if accelerator.state.fsdp_plugin.ignored_modules:
        raise ConfigError(
            "each process would train FSDP's fsdp_ignored_modules on its own: leave them out"
        )
    train = config.train
    refused = {
        "lora": config.lora is not None,
        f"train.optimiser={train.optimiser}": train.optimiser != "adamw",
        "train.ema_decay": train.ema_decay is not None,
        "train.compile": train.compile,
        **{f"loss.{loss.setting}": not loss.is_for_fsdp for loss in weighted_losses(config)},
    }
    if what := next((what for what, is_refused in refused.items() if is_refused), None):
        raise ConfigError(f"FSDP does not support {what}; launch with DDP, or leave it out")


def whole(value: Any) -> Any:
    """`value` with its sharded tensors gathered on this device. All processes must call it."""
    if isinstance(value, DTensor):
        return value.full_tensor()
    if isinstance(value, dict):
        return {key: whole(v) for key, v in value.items()}
    if isinstance(value, list):
        return [whole(v) for v in value]
    return value


def spread_optimiser_state(state: dict[str, Any], optimiser: torch.optim.Optimizer) -> dict:
    """A whole optimiser state, sharded as the optimiser's parameters are."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    return {**state, "state": {i: spread(s, parameters[i]) for i, s in state["state"].items()}}


def spread(values: dict[str, torch.Tensor], like: torch.Tensor) -> dict[str, torch.Tensor]:
    if not isinstance(like, DTensor):
        return values
    return {
        key: distribute_tensor(
            value.to(like.device), like.device_mesh, like.placements, src_data_rank=None
        )
        if value.shape == like.shape
        else value  # the count of steps
        for key, value in values.items()
    }


def whole_model(model: EchoForConditionalGeneration) -> EchoForConditionalGeneration:
    """A model to decode with and to save, whole in every process; `model` itself, if it is not
    sharded. All processes must call it."""
    if not any(isinstance(p, DTensor) for p in model.parameters()):
        return model
    return with_weights(model, model.config, whole(model.state_dict()))
