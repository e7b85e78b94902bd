"""What a comparison says of transcripts that are known."""

import pytest

from echo.data.audio import AudioFile
from echo.data.utterance import Utterance
from echo.evaluate.decoding import Transcripts
from echo.evaluate.differences import error_rates, grouped_errors, most_changed
from echo.evaluate.evaluation import score
from echo.evaluate.normaliser import normaliser
from echo.evaluate.statistics import MIN_SPEAKERS, resampling_units

TEXTS = ["red green blue", "Black, white!", "grey", "pink gold brown tan"]
GOOD = ["red green blue", "black white", "gray", "pink gold brown tan"]
BAD = ["red blue", "", "grey", "pink pink gold bran tan"]
SPEAKERS = ["a", "b", "a", None]


def utterances(texts=TEXTS, speakers=SPEAKERS):
    return [
        Utterance(f"u{i}", AudioFile("none.wav"), text, 1.0, speaker)
        for i, (text, speaker) in enumerate(zip(texts, speakers, strict=True))
    ]


def evaluation(heard, said=None):
    said = utterances() if said is None else said
    return score(Transcripts(said, heard, 1.0), normaliser("en", None))


EVALUATIONS = {"good": evaluation(GOOD), "again": evaluation(GOOD), "bad": evaluation(BAD)}


def test_rates_are_of_the_whole_set_within_their_intervals():
    found = error_rates(EVALUATIONS)
    for name, evaluation in EVALUATIONS.items():
        for key in ("wer", "wer_normalised", "cer", "cer_normalised"):
            counts = getattr(evaluation, key).to_dict()
            assert found["rates"][name][key].items() >= counts.items()
    wer = found["rates"]["bad"]["wer_normalised"]
    assert (wer["deletions"], wer["insertions"], wer["substitutions"]) == (3, 1, 1)
    assert wer["interval"][0] < wer["rate"] == 0.5 < wer["interval"][1]
    assert found["rates"]["good"]["wer"]["rate"] > found["rates"]["good"]["wer_normalised"]["rate"]


def test_differences_are_from_the_first_model():
    found = error_rates(EVALUATIONS)["differences"]
    assert list(found) == ["again", "bad"]
    nothing = {"difference": 0, "interval": (0, 0), "better": 0.5}
    assert found["again"] == {"wer": nothing, "wer_normalised": nothing}
    assert found["bad"]["wer_normalised"]["difference"] == pytest.approx(0.4)
    assert found["bad"]["wer_normalised"]["better"] < 0.1


def test_of_one_utterance_nothing_is_sure():
    said = utterances(["one two"], ["a"])
    found = error_rates({"a": evaluation(["one"], said), "b": evaluation(["one two"], said)})
    assert found["resampling"]["units"] == 1
    assert found["rates"]["a"]["wer"]["interval"] is None
    assert found["differences"]["b"]["wer"] == {
        "difference": -0.5,
        "interval": None,
        "better": None,
    }


def test_speakers_are_drawn_where_there_are_enough():
    many = [str(i // 2) for i in range(2 * MIN_SPEAKERS)]
    assert resampling_units(many) == ("speaker", many)
    for speakers in ([None, *many[1:]], ["0", "0", *many[:-2]]):
        unit, units = resampling_units(speakers)
        assert unit == "utterance"
        assert len(set(units)) == len(many)


@pytest.mark.parametrize("column", ["speaker", "duration"])
def test_groups_sum_to_the_whole(column):
    groups = grouped_errors(EVALUATIONS, column)
    assert sum(g["utterances"] for g in groups) == len(TEXTS)
    for name, evaluation in EVALUATIONS.items():
        for wer in ("wer", "wer_normalised"):
            whole = getattr(evaluation, wer).to_dict()
            for count in ("insertions", "deletions", "substitutions", "reference"):
                assert sum(g["models"][name][wer][count] for g in groups) == whole[count]


def test_what_changed_most_comes_first():
    changed = most_changed(EVALUATIONS["good"], EVALUATIONS["bad"])
    assert [(c["id"], c["wer_normalised"]["errors"], c["wer"]["errors"]) for c in changed] == [
        ("u3", [0, 2], [0, 2]),
        ("u1", [0, 2], [2, 2]),
        ("u0", [0, 1], [0, 1]),
        ("u2", [1, 0], [1, 0]),
    ]
    assert changed[1]["wer_normalised"]["reference"] == "black white"
    assert changed[1]["wer_normalised"]["hypotheses"] == ["black white", ""]
    assert changed[1]["wer"]["reference"] == "Black, white!"
    assert changed[1]["wer"]["hypotheses"] == ["black white", ""]
    assert most_changed(EVALUATIONS["good"], EVALUATIONS["bad"], 1) == changed[:1]
    assert most_changed(EVALUATIONS["good"], EVALUATIONS["again"]) == []


def test_what_changed_only_as_written_is_shown_after_the_rest():
    heard = [*GOOD[:1], "Black, white!", *GOOD[2:3], "pink gold brown"]
    changed = most_changed(EVALUATIONS["good"], evaluation(heard))
    assert [c["id"] for c in changed] == ["u3", "u1"]
    assert changed[1]["wer"]["errors"] == [2, 0]
    assert changed[1]["wer_normalised"]["errors"] == [0, 0]
