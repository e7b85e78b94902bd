"""Markdown, and text that is safe in it."""

import re
from collections.abc import Sequence

from echo.plain_text import visible


def table(header: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A Markdown table, whose first `texts` columns are text and whose others are numbers."""
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


def escape(text: str) -> str:
    """Text in one line, with nothing that Markdown, or HTML in it, takes for its own."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&!$])", r"\\\1", one_line(text))


def one_line(text: str) -> str:
    """Text whose white space is single spaces, for blocks in which Markdown takes nothing."""
    return visible(" ".join(text.split()))


def percent(rate: float) -> str:
    return f"{100 * rate:.2f} %"
