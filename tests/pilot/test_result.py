"""What a pilot says in words."""

from dataclasses import replace

import pytest

from echo.evaluate.result import Difference
from echo.evaluate.statistics import Resampling
from echo.evaluate.summary import model_table
from echo.evaluate.verdict import sure
from echo.pilot.result import pilot_result, said_at_equal_seconds, silent

RESAMPLING = {"unit": "utterance", "units": 300, "utterances": 300, "seeds": 3, "level": 0.95}


def spread(mean, least=None, most=None):
    return {"mean": mean, "least": least or mean, "most": most or mean}


def model(name, gain=None):
    watched = {"span": spread(0.5), "temperature": spread(1.0), "gain": spread(gain)}
    return {
        "model": name,
        "parameters": 1_860_000,
        "training_flops_per_second": spread(120_000_000),
        "steps": spread(10),
        "step_seconds_ratio": spread(1.1, 1.05, 1.15),
        "train_seconds": spread(61.2),
        "training_memory_bytes": None if gain is None else spread(51_300_000),
        "wer": spread(0.0123, 0.01, 0.02),
        "wer_decoder": None,
        "cer": spread(0.005),
        "rtfx": spread(120.4),
        "attention": None if gain is None else watched,
    }


def content(*models, **resampling):
    return {
        "baseline": "whisper",
        "seeds": [1, 2, 3],
        "models": models,
        "resampling": {**RESAMPLING, **resampling},
        "differences": {},
        "equal_seconds": {},
        "configs": {},
    }


def model_rows(*models):
    lines = model_table(pilot_result(content(*models))).splitlines()
    assert lines[1].replace("-", "").replace(":", "").replace("|", "").strip() == ""
    header, _, *rows = ([c.strip() for c in line.strip("|").split("|")] for line in lines)
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_the_table_is_markdown_without_empty_columns():
    echo, whisper = model_rows(model("echo", 0.8), model("whisper"))
    assert echo["Parameters"] == "1.86 M"
    assert echo["FLOPs"] == "0.12 G"
    assert echo["Time per step"] == "1.10 (1.05 to 1.15)"
    assert echo["Memory in training"] == "51 MB"
    assert echo["WER"] == "1.23 % (1.00 to 2.00)"
    assert echo["Gain"] == "0.80"
    assert whisper["Gain"] == "–"
    assert "WER, decoder alone" not in echo
    [alone] = model_rows(model("whisper"))
    assert "Gain" not in alone


@pytest.mark.parametrize(
    ("value", "ends", "text"),
    [
        (-0.018, (-0.026, -0.009), "1.80 points better than whisper; 95 % interval 2.60 points "),
        (0.005, (-0.001, 0.01), "0.50 points worse than whisper; 95 % interval 0.10 points better"),
        (-0.001, (-0.003, 0.002), "0.10 points better than whisper; 95 % interval 0.30 points "),
        (0.0, (0.0, 0.0), "the same WER as whisper; 95 % interval"),
    ],
)
def test_a_difference_is_said_with_its_interval(value, ends, text):
    def said(found, **resampling):
        return sure(found, Resampling(**{**RESAMPLING, **resampling}))

    found = Difference("echo", "whisper", value, ends, 0.9)
    sentence = said(found)
    assert sentence.startswith(text)
    low, high = (f"{100 * abs(end):.2f} points {'better' if end <= 0 else 'worse'}" for end in ends)
    assert f"95 % interval {low} to {high}, over 3 seeds and 300 utterances" in sentence
    better = "worse in 10.0 %" if value > 0 else "better in 90.0 %"
    assert sentence.endswith(f"{better} of resamples.")
    one = said(found, seeds=1, unit="speaker", units=20)
    assert "over 300 utterances of 20 speakers; one seed, so not over seeds" in one
    alone = said(replace(found, interval=None, better=None), units=1)
    assert alone.endswith("there is only one utterance, so nothing says how sure that is.")


def test_who_is_ahead_at_equal_seconds_is_said():
    def said(ahead, after):
        counts = {"evaluations": 12, "ahead": ahead, "ahead_after_seconds": after}
        return said_at_equal_seconds("whisper", "echo", counts)

    assert said(9, 40.4) == "echo: ahead of whisper at 9 of 12 evaluations; at all after 40 s."
    assert said(9, None) == "echo: ahead of whisper at 9 of 12 evaluations."
    assert said(12, 0.0) == "echo: ahead of whisper at 12 of 12 evaluations."
    assert said(0, None) == "echo: ahead of whisper at 0 of 12 evaluations."


def test_a_silent_branch_is_said_to_be_silent():
    found = silent([model("echo", 0.8), model("focus", 0.01), model("whisper")])
    assert found == [
        "focus: the local branch has stayed silent (gain 0.01): this is its global branch alone."
    ]
