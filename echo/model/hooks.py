"""Keeps what a model computes on its way, by hooks on its modules."""

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch import nn

Key = TypeVar("Key", bound=Hashable)
Kept = TypeVar("Kept")


class CallRecorder(Generic[Key, Kept]):
    """Keeps something of the last call of each of several modules, in order of the first calls. As
    a context manager, it listens only within."""

    def __init__(
        self,
        modules: Mapping[Key, nn.Module],
        keep: Callable[[Any, dict[str, Any], Any], Kept],
        training_only: bool = True,
    ) -> None:
        """`keep` returns what to keep of a call, from the module, its arguments by name (a
        positional one is `hidden_states`), and its output; calls in evaluation mode only count
        without `training_only`."""
        self.kept: dict[Key, Kept] = {}
        self.keep = keep
        self.training_only = training_only
        self.handles = [
            module.register_forward_hook(partial(self.remember, key), with_kwargs=True)
            for key, module in modules.items()
        ]

    # Not compiled: torch cannot return one tensor to several hooks of a compiled layer.
    @torch.compiler.disable
    def remember(
        self,
        key: Key,
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Any,
    ) -> None:
        if module.training or not self.training_only:
            arguments = {"hidden_states": args[0], **kwargs} if args else kwargs
            self.kept[key] = self.keep(module, arguments, output)

    def forget(self) -> None:
        """Drops what is kept, and with it the graph of the batch."""
        self.kept.clear()

    def __enter__(self) -> "CallRecorder[Key, Kept]":
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()
