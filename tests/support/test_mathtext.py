"""Names and transcripts in figures are text."""

from matplotlib.figure import Figure

from echo.pilot.curves import draw_curves
from echo.support.text import escape_mathtext, legend_label


def test_dollars_and_control_characters_are_drawn_as_they_are(tmp_path):
    figure = Figure()
    title = figure.suptitle(escape_mathtext(r"costs $5 and $\frac{1$ \$ \x1b" + "\x1b[2J"))
    figure.savefig(tmp_path / "a.png")  # mathematics that is none would raise here
    text, mathematics = title._preprocess_math(title.get_text())
    assert not mathematics
    assert text == r"costs $5 and $\frac{1$ \$ \x1b\x1b[2J"


def test_a_legend_names_every_run(tmp_path):
    events = [{"kind": "train", "step": i, "seconds": i, "loss": 2.0 - i} for i in range(2)]
    events += [{"kind": "eval", "step": 1, "seconds": 1, "wer": 0.5}]
    assert len(draw_curves({"_a": [events], "$x^$": [events]}, tmp_path)) == 4
    assert (legend_label("_a"), legend_label("a_$b")) == (" _a", r"a_\$b")
