"""Linear layers computed in 8-bit integers, which on a CPU is faster.

torchao's eager layers are slower than float32 here, because they prepare the weights anew at each
call; so this uses oneDNN's kernels, which PyTorch's compiler calls too.
"""

import copy
from functools import lru_cache

import torch
from torch import nn

from echo.model.model import EchoForConditionalGeneration
from echo.support.errors import ConfigError


class Int8Linear(nn.Module):
    """A linear layer with weights of -127 to 127, or fewer (see `weight_steps`), a scale for each
    output, and inputs of 0 to 255 over their own range at each call. It has no gradient."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        self.scales = weight.abs().amax(1).clamp(min=1e-12) / weight_steps()
        self.zeros = torch.zeros(len(weight), dtype=torch.long)
        rounded = (weight / self.scales[:, None]).round().to(torch.int8)
        self.packed = torch.ops.onednn.qlinear_prepack(rounded, None)
        self.bias = None if linear.bias is None else linear.bias.detach().float()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., inputs) -> (..., outputs), both float32."""
        least, most = x.aminmax()
        lowest, highest = min(least.item(), 0.0), max(most.item(), 0.0)  # 0 is one of the steps
        step = max((highest - lowest) / 255, 1e-12)
        zero = round(-lowest / step)
        rounded = x.mul(1 / step).add_(zero + 0.5).clamp_(0, 255).to(torch.uint8)
        return product(rounded, step, zero, self.packed, self.scales, self.zeros, self.bias)


def product(
    x: torch.Tensor,
    step: float,
    zero: int,
    packed: torch.Tensor,
    scales: torch.Tensor,
    zeros: torch.Tensor,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    return torch.ops.onednn.qlinear_pointwise(
        x, step, zero, packed, scales, zeros, bias, 1.0, 0, torch.float32, "none", [], ""
    )


@lru_cache
def weight_steps() -> int:
    """Returns the largest integer weight: 127, or 63 on a processor without instructions for
    products of 8-bit integers (VNNI). There the kernels add up two products in 16 bits, which
    overflow with larger weights, and the sum is silently wrong."""
    largest = torch.ops.onednn.qlinear_prepack(torch.full((1, 32), 127, dtype=torch.int8), None)
    inputs, one = torch.full((1, 32), 255, dtype=torch.uint8), torch.ones(1)
    found = product(inputs, 1.0, 0, largest, one, torch.zeros(1, dtype=torch.long), None)
    return 127 if found.item() == 32 * 255 * 127 else 63


def int8_copy(model: EchoForConditionalGeneration) -> EchoForConditionalGeneration:
    """Returns a copy of a float32 model, all of whose linear layers, the output projection among
    them, are `Int8Linear`. Embeddings and convolutions stay as they are. Raises ConfigError where
    the model is not on a CPU that has the kernels."""
    if (device := model.device.type) != "cpu":
        raise ConfigError(f"--int8 is for the CPU, and the model runs on {device}")
    if not torch.backends.mkldnn.is_available():
        raise ConfigError("--int8 needs oneDNN, which this PyTorch was built without")
    made = copy.deepcopy(model)
    for module in list(made.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, Int8Linear(child))
    return made
