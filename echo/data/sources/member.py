"""A recording where it lies in a tar shard, which rows of a manifest can name too."""

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from echo.data.audio import AudioBytes, AudioReference
from echo.support.errors import DataError

MEMBER = "member"  # column of a manifest: the name, offset and size of a file in a tar shard


@dataclass(frozen=True)
class Member(AudioReference):
    """A plain file where it lies in a shard: a recording, or what is said of it."""

    path: Path
    name: str
    offset: int
    size: int  # bytes

    @property
    def key(self) -> str:
        """What the files of one utterance share: the name up to the first dot of its last part."""
        folder, slash, file = self.name.rpartition("/")
        return folder + slash + file.partition(".")[0]

    @property
    def suffix(self) -> str:
        return self.name.rpartition("/")[2].partition(".")[2].lower()

    def __str__(self) -> str:
        return f"{self.path}:{self.name}"

    def fetch(self) -> AudioBytes:
        name = str(self)
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except OSError as error:
            raise DataError(f"{name}: cannot be read ({error.strerror})") from None
        if len(content) < self.size:
            raise DataError(f"{name}: is cut off after {len(content)} of {self.size} bytes")
        return AudioBytes(content, name)

    def record(self) -> dict[str, Any]:
        """Returns what the column of a manifest says, beside the path of the shard."""
        return {"name": self.name, "offset": self.offset, "size": self.size}


def member_of(record: Mapping[str, Any], path: Path) -> Member | None:
    """Returns the recording that a row means in a shard; None if it names none. DataError where the
    row does not say where it lies."""
    told = record.get(MEMBER)
    if path.suffix.lower() != ".tar" or not isinstance(told, dict):
        return None
    name, offset, size = (told.get(key) for key in ("name", "offset", "size"))
    if not (isinstance(name, str) and is_place(offset) and is_place(size)):
        raise DataError(
            f"{MEMBER!r} must hold the name, offset and size of a file in the shard, not "
            f"{reprlib.repr(told)}"
        )
    return Member(path, name, offset, size)


def is_place(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
