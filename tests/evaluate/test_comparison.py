"""The report is Markdown whatever stands in transcripts and names."""

import re

import pytest

from echo.evaluate.comparison import align, comparison_result, render_comparison, short_names
from echo.evaluate.summary import render
from echo.support.text import escape_markdown, visible

EVIL = "a|b `c` <img src=x> *d*\n\n# e_f [g](h) &amp; \x1b[2J \u202e \\"


RATES = ("20.00", "10.00")  # of the group, as written and normalised


def comparison(name="one", text="some words here", interval=(0.1, 0.3)):
    counts = {"rate": 0.2, "insertions": 1, "deletions": 2, "substitutions": 3, "reference": 30}
    wer = {**counts, "interval": interval}
    rates = {"wer": wer, "wer_normalised": wer, "cer": counts, "cer_normalised": counts}
    better = None if interval is None else 0.975
    difference = {"difference": -0.05, "interval": interval, "better": better}
    model = {"parameters": 1_860_000, "peak_memory_bytes": 229_000_000, "rtfx": 43.21}
    model |= {"padding": {"pad_to_seconds": 30.0, "added_silence": 0.5}, "rtfx_equal_padding": 9}
    both = {"wer": counts, "wer_normalised": {**counts, "rate": 0.1}}
    change = {
        "words": 3,
        "errors": [0, 1],
        "reference": text,
        "hypotheses": [text, f"{text} more"],
    }
    return {
        "data": text,
        "utterances": 4,
        "left_out": 1,
        "audio_seconds": 90.0,
        "device": "CPU, threads: 1",
        "normaliser": "Whisper's normaliser of English",
        "models": [
            {"name": name, "source": text, "checkpoint": "step-600", **model},
            {"name": "other", "source": text, "checkpoint": None, **model}
            | {"padding": dict.fromkeys(model["padding"], 0), "rtfx_equal_padding": None},
        ],
        "resampling": {
            "unit": "utterance",
            "units": 1 if interval is None else 4,
            "resamples": 10_000,
            "level": 0.95,
            "seed": 0,
        },
        "rates": {name: rates, "other": rates},
        "differences": {"other": {"wer": difference, "wer_normalised": difference}},
        "groups": {text: [{"group": text, "utterances": 4, "models": {name: both, "other": both}}]},
        "changed": {
            "other": [
                {
                    "id": text,
                    "wer": {**change, "errors": [2, 4]},
                    "wer_normalised": change,
                }
            ]
        },
    }


def rows(markdown):
    return [line for line in markdown.splitlines() if line.startswith("|")]


def cells(row):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def test_the_tables_say_what_was_found():
    text = render_comparison(comparison())
    assert text.startswith("# Comparison on some words here\n\n**other gets 20.0 % of the words")
    assert "4 utterances, 1 left out, 1.5 minutes, on CPU, threads: 1." in text
    found = [cells(row) for row in rows(text)]
    figures = ["20.00 %"] * 4 + ["1.86 M", "229 MB", "43.2"]
    padded = "to 30 s, by 0.5 s"
    assert ["one", "some words here", "step-600", padded, *figures, "9.0"] in found
    assert ["other", "some words here", "", "none", *figures, "–"] in found
    counts = ["1", "2", "3", "30"]
    assert ["one", "WER", "20.00 %", "10.00 to 30.00", *counts] in found
    assert ["other", "WER as written", "20.00 %", "10.00 to 30.00", *counts] in found
    assert (
        "## Against one, by WER as written\n\n- other: 5.00 points better than one; 95 % " in text
    )
    assert (
        "interval 10.00 points worse to 30.00 points worse, over 4 utterances; better in " in text
    )
    by_group = [found.index(["some words here", "4", "30", *[f"{rate} %"] * 2]) for rate in RATES]
    assert by_group == sorted(by_group)
    assert "as written: 2 to 4 errors, words: 3" in text
    assert "normalised: 0 to 1 errors, words: 3" in text
    assert "10,000 bootstrap resamples of the 4 utterances" in text
    summary = render(comparison_result(comparison()))
    assert text.startswith(f"# Comparison on some words here\n\n{summary}")


@pytest.mark.parametrize("name", ["one", EVIL])
def test_what_stands_in_texts_and_names_is_text(name):
    """Outside of indented blocks, everything of Markdown is escaped and in one line."""
    plain, evil = (
        [line for line in render_comparison(c).splitlines() if not line.startswith("    ")]
        for c in (comparison(), comparison(name, EVIL))
    )
    assert len(plain) == len(evil)
    for before, after in zip(plain, evil, strict=True):
        assert before[:2] == after[:2]
        assert len(cells(before)) == len(cells(after))
        assert not re.search(r"(?<!\\)[`<\[&]", after)


def test_escaping_can_be_undone():
    assert re.sub(r"\\(.)", r"\1", escape_markdown(EVIL)) == visible(" ".join(EVIL.split()))


def test_words_stand_above_one_another():
    assert align("one two  three", "one too three four").splitlines() == [
        "REF: one two three ****",
        "HYP: one too three four",
        "           S          I",
    ]
    assert align("same", "same") == "REF: same\nHYP: same"
    assert align("gone", "").splitlines()[1] == "HYP: ****"
    assert align("", "new").splitlines()[0] == "REF: ***"
    assert align("", "") == "REF:\nHYP:"
    long = align("word " * 50, "word " * 49)
    assert max(map(len, long.splitlines())) <= 100
    assert long.count("REF: ") == 3


def test_what_one_utterance_cannot_tell_is_said():
    text = render_comparison(comparison(interval=None))
    assert "There is only one utterance, so nothing says how sure that is." in text
    assert "None" not in text


def test_a_comparison_without_changes_says_so():
    same = comparison()
    same["changed"]["other"] = []
    assert "No utterance has more word errors" in render_comparison(same)


def test_models_are_called_by_what_tells_them_apart():
    sources = ["out/echo/seed-1", "out/whisper/seed-1"]
    models = [{"name": f"seed-1-{i}", "source": source} for i, source in enumerate(sources)]
    assert list(short_names(models).values()) == ["echo", "whisper"]
    models = [{"name": name, "source": f"a/{name}"} for name in ("x", "y")]
    assert list(short_names(models).values()) == ["x", "y"]
