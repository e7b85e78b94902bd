"""The processes that train one model together."""

import atexit
import gc
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env, set_seed

from echo.support.errors import ConfigError, EchoError, StoppedElsewhere, reason
from echo.support.launch import process_count

PATIENCE = timedelta(hours=2)  # for the slowest process to read its data

Told = TypeVar("Told")


@dataclass(frozen=True)
class Processes:
    """This process and the number of processes of the run, which may be one.

    They exchange values from CPU to CPU, which does not wait for the work that a GPU still has to
    do. All processes must call the same methods in the same order.
    """

    rank: int = 0
    world: int = 1
    group: dist.ProcessGroup | None = None

    @classmethod
    @cache
    def started(cls) -> "Processes":
        """Returns the processes that the launcher started. ConfigError if accelerate does not see
        them all, so that each would train on its own."""
        count = process_count()
        with accelerate_set_up():
            # Without a GPU, accelerate has several processes work together only if told so.
            cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
            state = PartialState(cpu=cpu)
        if count != state.num_processes:
            raise ConfigError(
                f"{count} processes were started, but accelerate sees {state.num_processes}: "
                "launch with torchrun or 'accelerate launch --multi_gpu'"
            )
        if count == 1:
            return cls()
        group = dist.new_group(backend="gloo", timeout=PATIENCE)
        assert isinstance(group, dist.ProcessGroup)  # which all processes are in
        atexit.register(cls.end)
        return cls(state.process_index, count, group)

    @classmethod
    def end(cls) -> None:
        """Ends the groups and their threads. One that lets go of a tensor while the interpreter
        shuts down would abort the process; and a group has threads as long as anything refers to
        it, destroyed or not: the cache, or a trainer that is in a cycle of references."""
        cls.started.cache_clear()
        gc.collect()
        if dist.is_initialized():
            dist.destroy_process_group()

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, *numbers: int) -> list[int]:
        """Sums over all processes, number by number."""
        if self.group is None:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.int64)
        dist.all_reduce(total, group=self.group)
        return total.tolist()

    def highest(self, number: int) -> int:
        """Returns the highest of all processes' numbers."""
        if self.group is None:
            return number
        found = torch.tensor(number, dtype=torch.int64)
        dist.all_reduce(found, dist.ReduceOp.MAX, group=self.group)
        return int(found)

    def gather(self, value: Told) -> list[Told]:
        """Gathers the values of all processes, by rank."""
        if self.group is None:
            return [value]
        values: list[Told] = [value] * self.world
        dist.all_gather_object(values, value, group=self.group)
        return values

    @contextmanager
    def together(self) -> Iterator[None]:
        """Stops all processes if one fails in the block, so that none waits for another forever.
        Within, processes must not wait for each other.

        Raises:
            EchoError: the first error of any process; StoppedElsewhere in all but the main one, so
                that the error is printed once.
        """
        problem = None
        try:
            yield
        except EchoError as error:
            problem = error
        first = next((p for p in self.gather(problem) if p is not None), None)
        if first is not None:
            raise first if self.is_main else StoppedElsewhere(str(first))

    def seed(self, seed: int, step: int) -> None:
        """Seeds this process's random numbers by the seed, the step and the rank only."""
        set_seed(random.Random(f"{seed}-{step}-{self.rank}").getrandbits(32))


@contextmanager
def accelerate_set_up() -> Iterator[None]:
    """Turns what accelerate says of its variables in the environment into a ConfigError."""
    try:
        yield
    except (ValueError, RuntimeError, ImportError) as error:
        raise ConfigError(
            f"accelerate cannot be set up ({reason(error)}): check the launcher and the variables "
            "ACCELERATE_*, FSDP_*, RANK, WORLD_SIZE and MASTER_* in the environment"
        ) from error


ALONE = Processes()
