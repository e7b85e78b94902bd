import evaluate
import jiwer
import pytest

from echo.evaluate.wer import METRIC_PATH, character_errors, word_errors


def test_counts_are_of_the_whole_set():
    counts = word_errors(["one two three", "four"], ["one too three four", ""])
    assert (counts.substitutions, counts.deletions, counts.insertions) == (1, 1, 1)
    assert counts.reference == 4
    assert counts.rate == pytest.approx(3 / 4)
    assert counts.rate == jiwer.wer(["one two three", "four"], ["one too three four", ""])


def test_words_invented_in_silence_are_insertions():
    assert word_errors(["", "a b"], ["x y z", "a b"]).insertions == 3
    assert word_errors([""], [""]).rate == 0
    assert word_errors([""], ["thank you"]).rate == 1
    assert character_errors([""], ["abc"]).insertions == 3


def test_the_metric_module_loads_by_path():
    metric = evaluate.load(METRIC_PATH)
    result = metric.compute(references=["a b c", ""], predictions=["a x", "hello"])
    assert result["wer"] == 1
    assert (result["substitutions"], result["deletions"], result["insertions"]) == (1, 1, 1)
