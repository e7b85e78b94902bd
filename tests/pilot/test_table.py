"""What a pilot says in words."""

import pytest

from echo.pilot.table import at_equal_seconds, cells, difference, model_table, silent

RESAMPLING = {"unit": "utterance", "units": 300, "utterances": 300, "seeds": 3, "level": 0.95}


def spread(mean, least=None, most=None):
    return {"mean": mean, "least": least or mean, "most": most or mean}


def model(name, gain=None):
    watched = {"span": spread(0.5), "temperature": spread(1.0), "gain": spread(gain)}
    return {
        "model": name,
        "parameters": 1_860_000,
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


def result(*models, **resampling):
    return {"baseline": "whisper", "models": models, "resampling": {**RESAMPLING, **resampling}}


def test_the_table_is_markdown_without_empty_columns():
    lines = model_table(result(model("echo", 0.8), model("whisper"))).splitlines()
    assert lines[1].replace("-", "").replace(":", "").replace("|", "").strip() == ""
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    echo = dict(zip(rows[0], rows[2], strict=True))
    assert echo["parameters"] == "1.86 M"
    assert echo["time a step"] == "1.10 (1.05 to 1.15)"
    assert echo["memory MB"] == "51"
    assert echo["WER %"] == "1.23 (1.00 to 2.00)"
    assert echo["gain"] == "0.80"
    assert dict(zip(rows[0], rows[3], strict=True))["gain"] == "-"
    assert "WER %, decoder alone" not in rows[0]
    assert "gain" not in model_table(result(model("whisper")))
    assert cells(model("whisper"))["WER %, decoder alone"] == "-"


@pytest.mark.parametrize(
    ("points", "ends", "text"),
    [
        (-0.018, (-0.026, -0.009), "1.80 points better than whisper (95 % interval 0.90 to 2.60"),
        (0.005, (-0.001, 0.01), "0.50 points worse than whisper (95 % interval -0.10 to 1.00"),
        (-0.001, (-0.003, 0.002), "0.10 points better than whisper (95 % interval -0.20 to 0.30"),
        (0.0, (0.0, 0.0), "the same WER as whisper (95 % interval"),
    ],
)
def test_a_difference_is_said_with_its_interval(points, ends, text):
    found = {"difference": points, "interval": ends, "better": 0.9}
    said = difference(result(), "echo", found)
    assert said.startswith(f"echo: {text}")
    assert "over 3 seeds and 300 utterances" in said
    assert said.endswith("better in 90.0 % of resamples.")
    one = difference(result(seeds=1, unit="speaker", units=20), "echo", found)
    assert "over 300 utterances of 20 speakers; one seed, so not over seeds" in one
    alone = difference(result(units=1), "echo", {**found, "interval": None, "better": None})
    assert alone.endswith("one utterance does not say how sure that is.")


def test_who_is_ahead_at_equal_seconds_is_said():
    def said(ahead, after):
        counts = {"evaluations": 12, "ahead": ahead, "ahead_after_seconds": after}
        return at_equal_seconds(result(), "echo", counts)

    assert said(9, 40.4) == "echo: ahead of whisper at 9 of 12 evaluations; at all after 40 s."
    assert said(9, None) == "echo: ahead of whisper at 9 of 12 evaluations."
    assert said(12, 0.0) == "echo: ahead of whisper at 12 of 12 evaluations."
    assert said(0, None) == "echo: ahead of whisper at 0 of 12 evaluations."


def test_a_silent_branch_is_said_to_be_silent():
    found = silent(result(model("echo", 0.8), model("focus", 0.01), model("whisper")))
    assert found == [
        "focus: the local branch has stayed silent (gain 0.01): this is its global branch alone."
    ]
