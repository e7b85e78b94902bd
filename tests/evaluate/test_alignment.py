"""Alignments, mistakes and loops, against counts that are made in another way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo.evaluate.alignment import DELETION, INSERTION, SUBSTITUTION, align
from echo.evaluate.wer import word_errors
from echo.report.mistakes import Mistake, longest_loop, mistakes

TEXTS = st.lists(st.sampled_from("abc"), max_size=8).map(" ".join)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
def test_an_alignment_has_the_words_and_the_errors_of_both(pairs):
    references, hypotheses = zip(*pairs, strict=True)
    found = align(references, hypotheses)
    for alignment, (reference, hypothesis) in zip(found, pairs, strict=True):
        read = [*alignment.pairs()]
        assert [said for _, said, _ in read if said] == reference.split()
        assert [heard for *_, heard in read if heard] == hypothesis.split()
        assert all((kind == "=") == (said == heard) for kind, said, heard in read)
        assert alignment.errors == word_errors([reference], [hypothesis]).errors


def test_letters_are_aligned_where_words_have_no_spaces():
    [alignment] = align(["你好吗"], ["你吗"], by_letters=True)
    assert [*alignment.pairs()] == [("=", "你", "你"), ("d", "好", None), ("=", "吗", "吗")]


def test_the_commonest_mistakes_come_first():
    said = ["one two three", "two", "four", ""]
    heard = ["one too", "too", "four five", "five"]
    found = mistakes(iter(align(said, heard)))
    assert found == {
        SUBSTITUTION: {Mistake("two", "too"): 2},
        DELETION: {Mistake("three", None): 1},
        INSERTION: {Mistake(None, "five"): 2},
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b a b a b a b c", 8),
        ("x a a a a a a a", 7),
        ("a a a a", 0),  # as people do say
        ("a b c d a b c d", 0),
        ("one two three four five six", 0),
        ("", 0),
    ],
)
def test_a_loop_is_as_long_as_it_repeats(text, words):
    assert longest_loop(text.split()) == words
