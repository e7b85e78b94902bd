"""Muon for the matrices of hidden layers, and AdamW for all other parameters, as one optimiser."""

from collections.abc import Callable, Sequence
from typing import Any

import torch


class MuonWithAdamW(torch.optim.Optimizer):
    """torch's Muon (Jordan et al. 2024) and AdamW side by side. Its groups and state are theirs, so
    that schedules, gradient clipping and checkpoints see one optimiser.

    Muon's updates are scaled to AdamW's size (Liu et al. 2025, "Muon is scalable for LLM
    training"), so one learning rate and one weight decay serve both.
    """

    def __init__(
        self,
        hidden: Sequence[dict[str, Any]],
        others: Sequence[dict[str, Any]],
        betas: tuple[float, float],
    ) -> None:
        """
        Args:
            hidden: parameter groups of matrices, for Muon.
            others: parameter groups for AdamW.
            betas: AdamW's.
        """
        muon = torch.optim.Muon(hidden, adjust_lr_fn="match_rms_adamw")
        parts: list[torch.optim.Optimizer] = [muon]
        if others:
            parts.append(torch.optim.AdamW(others, betas=betas, fused=True))
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.parts = parts
        self.share()

    def share(self) -> None:
        """Makes the parts work on this optimiser's groups and state."""
        first = 0
        for part in self.parts:
            last = first + len(part.param_groups)
            part.param_groups, part.state = self.param_groups[first:last], self.state
            first = last

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for part in self.parts:
            part.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.share()
