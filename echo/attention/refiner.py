"""The refiner of the focus form: tabular Q-learning that learns when to shrink the span."""

from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import nn


class Refiner(Protocol):
    """What the focus form asks of a refiner; any object with these two methods can be one."""

    def choose(self, state: torch.Tensor, explore: bool) -> tuple[torch.Tensor, Any]:
        """Chooses how much of the span to keep.

        Args:
            state: (B, N, 2 D), mean and variance over frames of what the local branch is given;
                N is 1 in the encoder and the number of positions in the decoder.
            explore: whether this is training.

        Returns:
            ρ in [0, 1], (B, N), and whatever `learn` is to be reminded of.
        """
        ...

    def learn(
        self, choice: Any, reward: torch.Tensor, next_state: torch.Tensor, real: torch.Tensor
    ) -> None:
        """Learns from a choice, in training alone.

        Args:
            choice: what `choose` returned beside ρ.
            reward: (B, N), finite.
            next_state: as `state`, of what the local branch found.
            real: (B, N), False where there was nothing but padding, of which nothing is learned.
        """
        ...


class QTable(nn.Module):
    """Q-learning (Watkins 1989) over states that are hashed means and variances.

    Everything it knows is in buffers, so it is saved with the model, and a run that is resumed
    draws what the unbroken one would have drawn. Ranks of a distributed run learn from each
    other's choices, so their tables stay equal.
    """

    states = 10_000
    actions = 10  # action a keeps a / 9 of the span
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
        self.register_buffer("seed", torch.randint(2**31, ()))  # of torch's seeded generator
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
        # What was chosen more than once moves towards the mean of its targets.
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
        """The best action in each state; the one that keeps more where several are best, so that
        an unseen state keeps the whole span."""
        return self.actions - 1 - self.values[states].flip(-1).argmax(-1)

    def hash(self, state: torch.Tensor) -> torch.Tensor:
        """(B, N, F) -> (B, N), the same in every process."""
        bins = ((state.float() + 1) / 2 * self.bins).floor().clamp(0, self.bins - 1).long()
        places = torch.arange(state.shape[-1], device=state.device) * self.bins
        return mix(mix(places + bins).sum(-1)) % self.states

    def draw(self, shape: torch.Size) -> tuple[torch.Tensor, torch.Tensor]:
        """Two tensors of uniform numbers in [0, 1), without a generator's hidden state."""
        self.calls += 1
        places = torch.arange(2 * shape.numel(), device=self.seed.device)
        numbers = mix(mix(self.seed + mix(self.calls)) + places)
        uniform = (numbers % 2**24) / 2**24
        first, second = uniform.view(2, *shape)
        return first, second


def recomputing() -> bool:
    """Whether this is gradient checkpointing's second forward pass, which must do what the first
    one did: it alone runs within a backward pass."""
    return torch._C._current_graph_task_id() != -1


def mix(x: torch.Tensor) -> torch.Tensor:
    """Scrambles integers: the finaliser of MurmurHash3 (Appleby), in 32 bits."""
    x = x & 0xFFFFFFFF
    x = (x ^ (x >> 16)) * 0x85EBCA6B & 0xFFFFFFFF
    x = (x ^ (x >> 13)) * 0xC2B2AE35 & 0xFFFFFFFF
    return x ^ (x >> 16)
