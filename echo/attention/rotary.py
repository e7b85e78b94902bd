"""Rotary positions (Su et al. 2021, "RoFormer")."""

import torch


def rotate(x: torch.Tensor, base: float, start: int) -> torch.Tensor:
    """Turns queries or keys by their positions, so that scores depend on distances.

    Args:
        x: (B, H, T, d), d even.
        base: the slowest frequency is about 1 / base.
        start: the first one's position.
    """
    half = x.shape[-1] // 2
    dtype = torch.promote_types(x.dtype, torch.float32)
    frequencies = base ** (-torch.arange(half, device=x.device, dtype=dtype) / half)
    positions = torch.arange(start, start + x.shape[2], device=x.device)
    angles = positions[:, None] * frequencies
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
