"""What rows may share, by which they must not be on two sides of a split: a speaker, a recording, a
sentence, or the value of any other column."""

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import regex

from echo.data.columns import Utterances, packed, unpacked
from echo.data.prepare.rows import real_folder
from echo.support.errors import ConfigError
from echo.support.text import brief

NOT_SPOKEN = regex.compile(r"[^\p{L}\p{M}\p{N}]+")
NOT_SPOKEN_ASCII = bytes(code for code in range(128) if not chr(code).isalnum())
FIELDS = ("speaker", "language", "task")  # what utterances have besides `extra`


def sentence_of(text: str) -> str | None:
    """Returns the letters and digits of a text, in lower case: all else is spelling."""
    if text.isascii():  # the same, faster
        return text.encode().lower().translate(None, NOT_SPOKEN_ASCII).decode() or None
    return NOT_SPOKEN.sub("", unicodedata.normalize("NFKC", text).casefold()) or None


def real_path(path: str | None) -> str | None:
    """Returns the real path of a recording's file, if it is one."""
    if path is None:
        return None
    if os.path.islink(path):  # noqa: PTH114, as text
        return str(Path(path).resolve())
    # Plain strings: hashing and joining paths takes longer than reading the row.
    folder, separator, name = path.rpartition(os.sep)
    return f"{real_folder(folder + separator)}{os.sep}{name}"


@dataclass(frozen=True)
class Codes:
    """The values of a column, numbered as they come; -1 where a row has none."""

    array: np.ndarray
    names: pa.Array  # the bytes of each value

    @classmethod
    def of(cls, values: Iterable[str | None]) -> "Codes":
        content = (None if value is None else packed(value) for value in values)
        encoded = pa.array(content, pa.large_binary()).dictionary_encode()
        return cls(encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy(), encoded.dictionary)

    def name(self, code: int) -> str:
        return unpacked(self.names[code].as_py())


def column_codes(name: str, rows: Utterances) -> Codes:
    """Returns what each row has in a column, as text and numbered."""
    if name in FIELDS:
        return Codes.of(value for (value,) in rows.cells(name))
    values = (extra.get(name) for (extra,) in rows.cells("extra"))
    return Codes.of(None if value is None or value == "" else str(value) for value in values)


def rule_codes(rule: str, rows: Utterances) -> tuple[Codes, ...]:
    """Returns the columns by which a rule tells what rows share."""
    if rule == "recording":  # a row that was cut out of a recording may name it in a column
        files = Codes.of(real_path(path) for (path,) in rows.cells("path"))
        return files, column_codes("recording", rows)
    if rule == "text":
        return (Codes.of(sentence_of(text) for (text,) in rows.cells("text")),)
    return (column_codes(rule, rows),)


def check_found(
    spec: str, option: str, named: Mapping[str, Sequence[Codes]], rows: Utterances
) -> None:
    """Raises ConfigError for a rule or column of an option that no row has anything for, and says
    how to do without."""
    for name, codes in named.items():
        if any(len(each.names) for each in codes):
            continue
        rest = ",".join(other for other in named if other != name)
        advice = f"leave it out: {option} {rest}" if rest else f"leave out {option}"
        if name == "speaker":
            raise ConfigError(
                f"{spec}: no row names its speaker, so speakers cannot be kept apart or counted: "
                f"name their column with --speaker-column, or {advice}"
            )
        columns = {column for (extra,) in rows.cells("extra") for column in extra}
        found = ", ".join(sorted(map(brief, columns))) or "none"
        raise ConfigError(
            f"{spec}: no row has anything for {brief(name)!r} (its further columns: {found}): "
            f"name another, or {advice}"
        )
