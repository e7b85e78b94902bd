"""Text as it can be shown anywhere: on a terminal, in a log, in Markdown, in a figure."""

import re
from collections.abc import Sequence

# What is obeyed rather than shown: control characters, by which a transcript or a file's name
# could move the cursor or clear the screen, line breaks of Unicode's, marks that reverse the
# order of what follows, and half surrogate pairs, which nothing can write.
OBEYED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

BRIEF = 200  # characters


def visible(text: str) -> str:
    """Text in one line, with what would be obeyed spelled out as Python spells it."""
    return OBEYED.sub(lambda found: repr(found[0])[1:-1], text)


def brief(name: str) -> str:
    """A name as a sentence has room for it."""
    shown = visible(name)
    return shown if len(shown) <= BRIEF else f"{shown[: BRIEF // 2]}...{shown[-BRIEF // 2 :]}"


def visible_lines(text: str) -> str:
    """The same for text that is made of lines on purpose."""
    return "\n".join(map(visible, text.split("\n")))


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


def escape_markdown(text: str) -> str:
    """Text in one line, with nothing that Markdown, or HTML in it, takes for its own."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&!$])", r"\\\1", one_line(text))


def one_line(text: str) -> str:
    """Text whose white space is single spaces, for blocks in which Markdown takes nothing."""
    return visible(" ".join(text.split()))


def percent(rate: float) -> str:
    return f"{100 * rate:.2f} %"


def escape_mathtext(text: str) -> str:
    """Text in one line, whose dollar signs are dollar signs."""
    return visible(text).replace("$", r"\$")


def legend_label(text: str) -> str:
    """Text for a legend, which leaves out what begins with an underscore."""
    return escape_mathtext(f" {text}" if text.startswith("_") else text)
