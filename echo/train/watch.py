"""Monitors training: each focused block's span, temperature, entropy and gain, and the time spent
waiting for data."""

import logging
from typing import Any

import torch
from torch import nn

from echo.attention.base import FocusedAttention
from echo.attention.maps import attention_maps, entropy
from echo.model.hooks import CallRecorder

logger = logging.getLogger(__name__)

WATCHED_POSITIONS = 512  # at most, of one utterance: maps grow with their square
COLLAPSED = 0.1  # nats; below, a query gives nearly all of its weight to one key
BOUND = 0.01  # a span scale this near to 0 or 1 counts as at its bound
MUCH_WAITING = 0.1  # share of the time


class AttentionWatch:
    """Remembers the focused blocks' last inputs and spans in training."""

    def __init__(self, model: nn.Module) -> None:
        self.blocks = {
            short_name(name): module
            for name, module in model.named_modules()
            if isinstance(module, FocusedAttention)
        }
        self.calls = CallRecorder(self.blocks, span_and_input)
        self.warned: set[tuple[str, str]] = set()  # block and kind of warning

    def measure(self) -> dict[str, float]:
        """Means for the log, by `QUANTITY/BLOCK`. Warns, once for each block, where one is stuck.

        Spans are of the last batch; temperature and entropies (in nats) of its first utterance.
        """
        values: dict[str, float] = {}
        for name, (span, x, mask) in self.calls.kept.items():
            block = self.blocks[name]
            x = x[:, :WATCHED_POSITIONS]
            mask = None if mask is None else mask[..., : x.shape[1], : x.shape[1]]
            maps = attention_maps(block, x, mask)
            assert maps.local is not None
            assert maps.temperature is not None
            seeing = maps.local.sum(-1) > 0  # neither padding nor an empty window
            local = (entropy(maps.local) * seeing).sum() / seeing.sum().clamp(min=1)
            found = {
                "span": span.float().mean(),
                "temperature": maps.temperature.float().mean(),
                "entropy_local": local,
                "entropy_global": entropy(maps.overall).mean(),
                "gain": block.gain(),
            }
            values |= {f"{key}/{name}": value.item() for key, value in found.items()}
            self.warn(name, block, values)
        return values

    def warn(self, name: str, block: FocusedAttention, values: dict[str, float]) -> None:
        span, local = values[f"span/{name}"], values[f"entropy_local/{name}"]
        if local < COLLAPSED:
            self.say_once(
                name,
                "collapsed",
                f"the local attention's entropy is {local:.3f} nats: it looks at single frames. "
                "A higher temperature (temp_scale, or temperature: learned) may help",
            )
        elif block.learns_span and not BOUND < span < 1 - BOUND:
            self.say_once(
                name,
                "lowest span" if span < BOUND else "highest span",
                f"the span scale is {span:.3f}, at its bound: it can go no "
                + ("lower. A smaller ramp" if span < BOUND else "higher. A larger max_span")
                + " may suit the data",
            )

    def say_once(self, name: str, kind: str, what: str) -> None:
        if (name, kind) not in self.warned:
            self.warned.add((name, kind))
            logger.warning("%s: %s", name, what)


def span_and_input(
    block: FocusedAttention, arguments: dict[str, Any], output: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Returns a batch's spans, and the input and mask of its first utterance."""
    mask = arguments.get("attention_mask")
    return (
        output[1].detach(),
        arguments["hidden_states"][:1].detach(),
        None if mask is None else mask[:1],
    )


class DataWatch:
    """Measures the share of the time spent waiting for data."""

    def __init__(self) -> None:
        self.waited = self.seconds = 0.0  # since the last logged line
        self.warming_up = True  # the first line includes starting the workers
        self.warned = False

    def add(self, waited: float, seconds: float) -> None:
        """Adds a step: the seconds it waited for its batches, and all of its seconds."""
        self.waited += waited
        self.seconds += seconds

    def measure(self) -> dict[str, float]:
        """The share since the last logged line. Warns once if it is large."""
        share = self.waited / self.seconds
        if share > MUCH_WAITING and not self.warming_up and not self.warned:
            self.warned = True
            logger.warning(
                "%.0f %% of the time goes into waiting for data: raise data.workers, or let "
                "data.cache keep decoded recordings",
                100 * share,
            )
        self.waited = self.seconds = 0.0
        self.warming_up = False
        return {"data_wait": share}


def short_name(name: str) -> str:
    """model.encoder.layers.3.self_attn -> encoder.3"""
    return name.removeprefix("model.").replace(".layers", "").removesuffix(".self_attn")
