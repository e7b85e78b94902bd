"""Text in which matplotlib finds no mathematics."""

from echo.plain_text import visible


def escape(text: str) -> str:
    """Text in one line, whose dollar signs are dollar signs."""
    return visible(text).replace("$", r"\$")


def label(text: str) -> str:
    """Text for a legend, which leaves out what begins with an underscore."""
    return escape(f" {text}" if text.startswith("_") else text)
