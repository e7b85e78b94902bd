"""Names and transcripts in figures are text."""

from matplotlib.figure import Figure

from echo.support.text import escape_mathtext


def test_dollars_and_control_characters_are_drawn_as_they_are(tmp_path):
    figure = Figure()
    title = figure.suptitle(escape_mathtext(r"costs $5 and $\frac{1$ \$ \x1b" + "\x1b[2J"))
    figure.savefig(tmp_path / "a.png")  # mathematics that is none would raise here
    text, mathematics = title._preprocess_math(title.get_text())
    assert not mathematics
    assert text == r"costs $5 and $\frac{1$ \$ \x1b\x1b[2J"
