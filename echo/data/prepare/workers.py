"""Work on the recordings of rows, in processes."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch.utils.data import DataLoader, Dataset

from echo.data.utterance import Utterance
from echo.support.errors import DataError, tried
from echo.support.signals import leave_signals_to_parent

T = TypeVar("T")


def done_with(
    rows: Iterable[Utterance | DataError],
    work: Callable[[Utterance], T],
    workers: int,
    ahead: int = 2,
) -> Iterator[T | DataError]:
    """Yields what a function returns for each row, in their order, or why there is nothing: the
    row's own problem, or the function's, with the row's place before it.

    Args:
        work: at the top of a module, or a `partial` of such, so that it reaches other processes.
        workers: processes that work; 0 works in this one.
        ahead: rows that each of them may be ahead of what is asked for.
    """
    yield from DataLoader(
        Work(work),
        batch_size=None,
        sampler=rows,  # of rows, not of ints
        num_workers=workers,
        prefetch_factor=ahead if workers else None,
        worker_init_fn=leave_signals_to_parent,
        collate_fn=as_it_is,
    )


@dataclass
class Work(Dataset, Generic[T]):
    """Works on a row. Errors are returned: a worker would bury the sentence in its traceback."""

    work: Callable[[Utterance], T]

    def __getitem__(self, row: Utterance | DataError) -> T | DataError:
        return row if isinstance(row, DataError) else tried(row.where, self.work, row)


def as_it_is(found: Any) -> Any:
    """Keeps arrays from being made tensors."""
    return found
