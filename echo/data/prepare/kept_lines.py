"""A file of what is done already, by which work that was stopped goes on."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from echo.support.files import replace_text, writing


class KeptLines:
    """A file of JSON lines with a `key` each, which grows line by line. Without a file, nothing is
    kept."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.entries: dict[str, dict[str, Any]] = {}
        self.order: list[str] = []
        self.torn = False  # whether the process that wrote the last line was killed
        if file is None or not file.exists():
            return
        with writing(file), file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                self.torn = not line.endswith("\n")
                try:
                    entry = json.loads(line)
                    self.entries[entry.pop("key")] = entry
                except (ValueError, KeyError, TypeError, AttributeError):
                    continue  # it is torn
        self.order = [*self.entries]

    def add(self, key: str, entry: dict[str, Any]) -> None:
        """Keeps an entry at once."""
        self.entries[key] = entry
        if self.file is not None:
            with writing(self.file), self.file.open("a", encoding="utf-8", newline="\n") as lines:
                lines.write("\n" * self.torn + line_of(key, entry))
            self.torn = False

    def only(self, keys: Iterator[str]) -> None:
        """Keeps the entries of these keys alone, in their order."""
        order = [key for key in dict.fromkeys(keys) if key in self.entries]
        if self.file is not None and order != self.order:
            replace_text(self.file, "".join(line_of(key, self.entries[key]) for key in order))


def line_of(key: str, entry: Mapping[str, Any]) -> str:
    return json.dumps({"key": key, **entry}, ensure_ascii=False) + "\n"
