"""AdamW and the learning rate's course."""

import torch
from torch import nn
from transformers import get_scheduler

from echo.config import TrainSettings


def build_optimiser(model: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW that decays matrices alone: not biases, norms or temperatures."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=settings.learning_rate,
        betas=(settings.betas[0], settings.betas[1]),
        fused=True,
    )


def build_schedule(
    optimiser: torch.optim.Optimizer, settings: TrainSettings
) -> torch.optim.lr_scheduler.LRScheduler:
    """Linear warm-up, then linear or cosine decay to zero at `max_steps`."""
    return get_scheduler(
        settings.schedule,
        optimiser,
        num_warmup_steps=settings.warmup_steps,
        num_training_steps=settings.max_steps,
    )
