"""`model.bin`, the file in which CTranslate2 keeps a model's weights.

As its `model_spec.py` writes it, little-endian throughout:

    uint32 version, string name of the specification, uint32 its revision
    uint32 number of variables; of each a string name, uint8 rank, uint32 per dimension,
        uint8 type, uint32 bytes, and the data
    uint32 number of aliases; of each the alias and the name of a variable, both strings

where a string is a uint16 length and so many bytes, the last of which is 0.
"""

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from echo.support.errors import DataError
from echo.support.text import brief

VERSION = 6
SPECIFICATION = "WhisperSpec"
# By the numbers that stand for them.
DTYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Variable:
    """Where a variable's numbers lie in `model.bin`."""

    path: Path
    name: str  # its own, whatever alias it is found by
    offset: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    def read(self) -> torch.Tensor:
        return self.rows(0, self.shape[0]) if self.shape else self.rows(0, 1).reshape(())

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Copies a part of the first dimension: the file aligns nothing, and what is mapped but
        not kept shall take no memory."""
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        place = self.offset + start * row
        mapped = np.memmap(self.path, np.uint8, "r", place, (stop - start) * row)
        return torch.from_numpy(np.array(mapped)).view(self.dtype).view(-1, *self.shape[1:])


def read_variables(path: Path) -> dict[str, Variable]:
    """Returns the variables of a `model.bin` by their names and aliases. Raises DataError where it
    is missing or damaged, or holds something else than a Whisper."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return Cursor(path, data).variables()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except struct.error:
        raise DataError(f"{path}: is cut off at byte {path.stat().st_size}") from None
    except ValueError:  # what is empty cannot be mapped, nor what is no text be decoded
        raise DataError(f"{path}: is not a model.bin of CTranslate2") from None


class Cursor:
    """Walks through a mapped `model.bin`, and never past its end: there, `struct` raises."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path = path
        self.data = data
        self.offset = 0

    def take(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self.data, self.offset)
        self.offset += struct.calcsize(f"<{form}")
        return found

    def number(self, kind: str = "I") -> int:
        return self.take(kind)[0]

    def string(self) -> str:
        return self.take(f"{self.number('H')}s")[0].removesuffix(b"\0").decode()

    def variables(self) -> dict[str, Variable]:
        if (version := self.number()) != VERSION:
            raise DataError(f"{self.path}: is of version {version}, not {VERSION}")
        if (name := self.string()) != SPECIFICATION:
            raise DataError(f"{self.path}: holds a {brief(name)}, not a {SPECIFICATION}")
        self.number()  # the revision
        found = [self.variable() for _ in range(self.number())]
        variables = {variable.name: variable for variable in found}
        for _ in range(self.number()):
            alias, name = self.string(), self.string()
            if name not in variables:
                raise DataError(
                    f"{self.path}: {brief(alias)} is an alias of {brief(name)}, which is not there"
                )
            variables[alias] = variables[name]
        return variables

    def variable(self) -> Variable:
        name = self.string()
        shape = self.take(f"{self.number('B')}I")
        kind, size = self.take("BI")
        if kind >= len(DTYPES):
            raise DataError(f"{self.path}: {brief(name)} is of an unknown type, {kind}")
        if not size or size != math.prod(shape) * DTYPES[kind].itemsize:
            raise DataError(
                f"{self.path}: {brief(name)} has {size} bytes, but its shape is {shape}"
            )
        start = self.offset
        self.take(f"{size}x")
        return Variable(self.path, name, start, DTYPES[kind], shape)
