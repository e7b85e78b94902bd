"""What forms share that add the local branch's output to the global one's."""

import torch
from torch import nn

from echo.attention.base import Branches, FocusedAttention
from echo.attention.global_branch import MultiHeadAttention
from echo.attention.settings import FocusedSettings


class SummedAttention(FocusedAttention, MultiHeadAttention):
    """The global branch itself, to whose output G the local branch's output L is added with a
    learned gain per channel. Whisper's output projection follows: y = W_o (G + gain ⊙ L) + b_o.

    A subclass loads its `initial_weights` once it has made all of its parameters.
    """

    def __init__(
        self,
        settings: FocusedSettings,
        dims: int,
        heads: int,
        causal: bool = False,
        dropout: float = 0.0,
    ) -> None:
        MultiHeadAttention.__init__(self, settings, dims, heads, dropout)
        self.settings = settings
        self.causal = causal
        self.local_gain = nn.Parameter(torch.empty(dims))

    def initial_weights(self) -> dict[str, torch.Tensor]:
        return {"local_gain": torch.full_like(self.local_gain, self.settings.first_gain)}

    @property
    def global_branch(self) -> MultiHeadAttention:
        return self

    def join(self, branches: Branches) -> torch.Tensor:
        return self.out_proj(branches.global_out + self.local_gain * branches.local_out)

    def gain(self) -> torch.Tensor:
        return self.local_gain.detach().abs().mean()
