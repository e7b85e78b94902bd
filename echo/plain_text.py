"""Text as it can be shown anywhere: on a terminal, in a log, in a title."""

import re

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
