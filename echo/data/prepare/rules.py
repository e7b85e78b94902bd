"""What rows may share, by which they must not be on two sides of a split: a speaker, a recording, a
sentence, or the value of any other column."""

import os
import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import regex

from echo.data.prepare.rows import file_path, real_folder
from echo.data.utterance import Utterance
from echo.support.errors import ConfigError
from echo.support.text import brief

NOT_SPOKEN = regex.compile(r"[^\p{L}\p{M}\p{N}]+")
FIELDS = ("speaker", "language", "task")  # what utterances have besides `extra`


def sentence_of(row: Utterance) -> str | None:
    """Returns the letters and digits of a text, in lower case: all else is spelling."""
    return NOT_SPOKEN.sub("", unicodedata.normalize("NFKC", row.text).casefold()) or None


def file_of(row: Utterance) -> str | None:
    """Returns the real path of the file that a row or part of a recording is in, if it is one."""
    path = file_path(row.audio)
    if path is None:
        return None
    if path.is_symlink():
        return str(path.resolve())
    # Plain strings: hashing and joining paths takes longer than reading the row.
    folder, separator, name = str(path).rpartition(os.sep)
    return f"{real_folder(folder + separator)}{os.sep}{name}"


def value_of(name: str, row: Utterance) -> str | None:
    """Returns what a row has in a column, as text."""
    value = getattr(row, name) if name in FIELDS else row.extra.get(name)
    return None if value is None or value == "" else str(value)


Tell = Callable[[Utterance], str | None]
# A row that was cut out of a recording may name it in a column.
TELLS: dict[str, tuple[Tell, ...]] = {
    "recording": (file_of, partial(value_of, "recording")),
    "text": (sentence_of,),
}


@dataclass
class Codes:
    """The values of a column, numbered as they come; -1 where a row has none."""

    tell: Tell
    names: dict[str, int] = field(default_factory=dict)
    codes: list[int] = field(default_factory=list)

    def add(self, row: Utterance) -> None:
        value = self.tell(row)
        self.codes.append(-1 if value is None else self.names.setdefault(value, len(self.names)))

    @property
    def array(self) -> np.ndarray:
        return np.array(self.codes, dtype=np.int64)


def column_codes(name: str) -> Codes:
    """Returns a column, still empty."""
    return Codes(partial(value_of, name))


def rule_codes(rule: str) -> tuple[Codes, ...]:
    """Returns the columns, still empty, by which a rule tells what rows share."""
    return tuple(map(Codes, TELLS[rule])) if rule in TELLS else (column_codes(rule),)


def check_found(
    spec: str, option: str, named: dict[str, tuple[Codes, ...]], columns: Collection[str]
) -> None:
    """Raises ConfigError for a rule or column of an option that no row has anything for, and says
    how to do without; `columns` are those that rows have."""
    for name, codes in named.items():
        if any(each.names for each in codes):
            continue
        rest = ",".join(other for other in named if other != name)
        advice = f"leave it out: {option} {rest}" if rest else f"leave out {option}"
        if name == "speaker":
            raise ConfigError(
                f"{spec}: no row names its speaker, so speakers cannot be kept apart or counted: "
                f"name their column with --speaker-column, or {advice}"
            )
        found = ", ".join(sorted(map(brief, columns))) or "none"
        raise ConfigError(
            f"{spec}: no row has anything for {brief(name)!r} (its further columns: {found}): "
            f"name another, or {advice}"
        )
