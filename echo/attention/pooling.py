"""Fewer keys and values for the global branch."""

import torch


def pool_frames(
    x: torch.Tensor, lengths: torch.Tensor, stride: int, most: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Averages each utterance's frames over strides.

    An utterance that would have more than `most` averages gets a longer stride of its own, so
    that attention to them costs time and memory linear in its length. Neither its stride nor its
    averages depend on how far it is padded.

    Args:
        x: (B, H, T, d).
        lengths: (B,) valid frames, which come first.

    Returns:
        The averages (B, H, K, d), and (B, K), which of them are of any frame.
    """
    T = x.shape[2]
    count = min(most, -(-T // stride))
    longest = max(stride, -(-T // most))
    strides = torch.div(lengths + most - 1, most, rounding_mode="floor").clamp(min=stride)
    starts = torch.arange(count, device=x.device) * strides[:, None]  # (B, K)
    offsets = torch.arange(longest, device=x.device)
    frames = starts[..., None] + offsets  # (B, K, longest)
    taken = (offsets < strides[:, None, None]) & (frames < lengths[:, None, None])
    shares = taken / taken.sum(-1, keepdim=True).clamp(min=1)
    rows = torch.arange(x.shape[0], device=x.device)[:, None, None]
    gathered = x.transpose(1, 2)[rows, frames.clamp(max=T - 1)]  # (B, K, longest, H, d)
    pooled = (gathered * shares[..., None, None].to(x.dtype)).sum(2)
    return pooled.transpose(1, 2), taken[..., 0]
