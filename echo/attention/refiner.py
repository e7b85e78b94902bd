"""The refiner of the focus form: learns by tabular Q-learning when to shrink the span."""

from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import nn


class Refiner(Protocol):
    """The interface of a refiner. Any object with these two methods can be one."""

    def choose(self, state: torch.Tensor, explore: bool) -> tuple[torch.Tensor, Any]:
        """Chooses how much of the span to keep.

        Args:
            state: (B, N, 2 D), mean and variance over frames of the local branch's input. N is 1
                in the encoder and the number of positions in the decoder.
            explore: True in training.

        Returns:
            ρ, the share of the span to keep, in [0, 1], (B, N); and the choice to pass to `learn`.
        """
        ...

    def learn(
        self, choice: Any, reward: torch.Tensor, next_state: torch.Tensor, real: torch.Tensor
    ) -> None:
        """Learns from a choice. Only called in training.

        Args:
            choice: the second value that `choose` returned.
            reward: (B, N), finite.
            next_state: like `state`, but of the local branch's output.
            real: (B, N), False where there is only padding. Nothing is learned from padding.
        """
        ...


class QTable(nn.Module):
    """Q-learning (Watkins 1989). The states are hashed means and variances.

    All of its state is in buffers, so it is saved with the model, and a resumed run draws the same
    numbers as an uninterrupted one. The ranks of a distributed run learn from each other's choices,
    so their tables stay equal.
    """

    states = 10_000
    actions = 10  # action a keeps a/9 of the span
    bins = 10  # over [-1, 1], for each mean and variance
    exploration = 0.1  # ε
    learning_rate = 0.1  # α
    discount = 0.9  # γ

    values: torch.Tensor
    seed: torch.Tensor
    calls: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("values", torch.zeros(self.states, self.actions))
        self.register_buffer("seed", torch.randint(2**31, ()))  # from torch's seeded generator
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def choose(self, state: torch.Tensor, explore: bool) -> tuple[torch.Tensor, Any]:
        states = self.hash(state)
        actions = self.greedy(states)
        if explore:
            explores, which = self.draw(states.shape)
            actions = torch.where(
                explores < self.exploration, (which * self.actions).long(), actions
            )
        return actions / (self.actions - 1), (states, actions)

    @torch.no_grad()
    def learn(
        self, choice: Any, reward: torch.Tensor, next_state: torch.Tensor, real: torch.Tensor
    ) -> None:
        states, actions = choice
        target = reward.float() + self.discount * self.values[self.hash(next_state)].amax(-1)
        # A state and action that occur more than once move towards the mean of their targets.
        sums = torch.zeros(2, self.values.numel(), device=target.device)
        entries = (states * self.actions + actions).flatten()
        sums[0].index_add_(0, entries, (target * real).flatten())
        sums[1].index_add_(0, entries, real.to(target.dtype).flatten())
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
        total, count = sums.view(2, *self.values.shape)
        change = total / count.clamp(min=1) - self.values
        self.values.add_(torch.where(count > 0, self.learning_rate * change, 0.0))

    def greedy(self, states: torch.Tensor) -> torch.Tensor:
        """Returns the best action in each state. Ties go to the action that keeps more, so an
        unseen state keeps the whole span."""
        return self.actions - 1 - self.values[states].flip(-1).argmax(-1)

    def hash(self, state: torch.Tensor) -> torch.Tensor:
        """(B, N, F) -> (B, N): the index of each state. It is the same in every process."""
        bins = ((state.float() + 1) / 2 * self.bins).clamp(0, self.bins - 1).long()
        places = torch.arange(state.shape[-1], device=state.device) * self.bins
        return mix(mix(places + bins).sum(-1)) % self.states

    def draw(self, shape: torch.Size) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns two tensors of uniform random numbers in [0, 1), without the hidden state of a
        generator."""
        self.calls += 1
        places = torch.arange(2 * shape.numel(), device=self.seed.device)
        numbers = mix(mix(self.seed + mix(self.calls)) + places)
        uniform = (numbers % 2**24) / 2**24
        first, second = uniform.view(2, *shape)
        return first, second


def recomputing() -> bool:
    """Says whether this is the second forward pass of gradient checkpointing, which must repeat the
    first. It is the only forward pass that runs inside a backward pass."""
    return torch._C._current_graph_task_id() != -1


def mix(x: torch.Tensor) -> torch.Tensor:
    """Scrambles integers: the finaliser of MurmurHash3 (Appleby), in 32 bits."""
    x = x & 0xFFFFFFFF
    x = (x ^ (x >> 16)) * 0x85EBCA6B & 0xFFFFFFFF
    x = (x ^ (x >> 13)) * 0xC2B2AE35 & 0xFFFFFFFF
    return x ^ (x >> 16)
