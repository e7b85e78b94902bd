"""The span predictor: how far the local branch should look, from what the global branch found."""

import torch
from torch import nn


class SpanPredictor(nn.Module):
    """s = sigmoid(w · mean_t(G) + b), for each utterance on its own.

    In the encoder the mean runs over the utterance's valid frames; in the decoder, at position
    t, over the positions up to t.
    """

    def __init__(self, dims: int, spans: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dims, spans)

    def contributions(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> (B, spans, T): w · x_t, of which the mean is taken. Since the product is
        linear it may come before the mean, and a decoder need remember only this."""
        contributions = (x @ self.linear.weight.t()).transpose(1, 2)
        # Half precision would lose the span in long sums.
        return contributions.to(torch.promote_types(contributions.dtype, torch.float32))

    def over_utterance(
        self, contributions: torch.Tensor, valid: torch.Tensor | None
    ) -> torch.Tensor:
        """(B, spans, T) -> (B, spans, 1), the mean over valid positions (B, T)."""
        if valid is None:
            mean = contributions.mean(-1)
        else:
            share = valid / valid.sum(-1, keepdim=True)
            mean = (contributions * share[:, None].to(contributions.dtype)).sum(-1)
        return torch.sigmoid(mean + self.linear.bias)[..., None]

    def over_past(self, contributions: torch.Tensor, positions: int) -> torch.Tensor:
        """(B, spans, T) -> (B, spans, positions): for each of the last `positions`, the mean over
        itself and all before it."""
        counts = torch.arange(1, contributions.shape[-1] + 1, device=contributions.device)
        means = contributions.cumsum(-1) / counts
        return torch.sigmoid(means[..., -positions:] + self.linear.bias[:, None])
