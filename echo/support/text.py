"""Text as it can be shown anywhere: on a terminal, in a log, in Markdown, in a figure. And what is
read from and made of short texts: lists of numbers and names, and distinct names."""

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

from echo.support.errors import ConfigError

Number = TypeVar("Number", int, float)

# Characters that are not shown: control characters, which could move the cursor or clear the
# screen, Unicode's line breaks and marks of direction, and half surrogate pairs, which cannot be
# written.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

BRIEF = 200  # characters


def visible(text: str) -> str:
    """Returns text in one line, with control characters escaped as in Python."""
    return CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def brief(name: str, most: int = BRIEF) -> str:
    """Shortens a name to fit into a sentence."""
    shown = visible(name)
    return shown if len(shown) <= most else f"{shown[: most // 2]}...{shown[-most // 2 :]}"


def visible_lines(text: str) -> str:
    """Returns text of several lines, with other control characters escaped as in Python."""
    return "\n".join(map(visible, text.split("\n")))


def read_numbers(text: str, key: str, kind: type[Number]) -> list[Number]:
    """Parses ints or floats separated by commas, such as "0.5, 0.5".

    Raises:
        ConfigError: one is no such number; `key` is the option that `text` was given for.
    """
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        numbers = "whole numbers" if kind is int else "numbers"
        raise ConfigError(f"{key}: {brief(text)!r} must be {numbers} separated by commas") from None


def read_names(text: str, key: str) -> list[str]:
    """Parses names separated by commas, such as "gender,language".

    Raises:
        ConfigError: one is empty or there twice; `key` is the option that `text` was given for.
    """
    names = [part.strip() for part in text.split(",")]
    if not all(names) or len({*names}) < len(names):
        raise ConfigError(f"{key}: {brief(text)!r} must be different names separated by commas")
    return names


def distinct(names: Iterable[str]) -> list[str]:
    """Numbers names that are taken, as "a", "A-2", so that they can be files of one folder. Case
    does not count, because some file systems ignore it."""
    found: list[str] = []
    taken: set[str] = set()
    for base in names:
        name, number = base, 2
        while name.casefold() in taken:
            name, number = f"{base}-{number}", number + 1
        taken.add(name.casefold())
        found.append(name)
    return found


def natural(text: str) -> list[str | tuple[int, str]]:
    """A sort key that puts 2 before 10, anywhere in a text. Any number of digits is compared
    without making a number of it, which Python refuses of thousands."""
    parts = re.split(r"([0-9]+)", text)
    numbers = [digits.lstrip("0") for digits in parts[1::2]]
    return [
        (len(numbers[i // 2]), numbers[i // 2]) if i % 2 else part for i, part in enumerate(parts)
    ]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """Renders a Markdown table; its first `texts` columns are text, the others numbers."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * w if i < texts else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join(
        "| "
        + " | ".join(
            cell.ljust(w) if i < texts else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in (header, rule, *rows)
    )


def escape_markdown(text: str) -> str:
    """Returns text in one line, escaped for Markdown and the HTML in it."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&!$])", r"\\\1", one_line(text))


def one_line(text: str) -> str:
    """Returns text in one line, for blocks of code in Markdown."""
    return visible(" ".join(text.split()))


def percent(rate: float) -> str:
    return f"{100 * rate:.2f} %"
