"""Texts are matched with what is heard word by word, whatever either of them lacks."""

import random
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo.evaluate.normaliser import normaliser
from echo.transcribe.align.anchors import Matching, read_words

ENGLISH = normaliser("en", SimpleNamespace(english_spelling_normalizer={"colour": "color"}))
BASIC = normaliser("de", None)


def matching(sentences, pieces, normalise=ENGLISH):
    return Matching(
        *([read_words(text, normalise) for text in side] for side in (sentences, pieces))
    )


def shown(items):
    return [
        " ".join(item.text if item.place else f"({item.text})" for item in piece) for piece in items
    ]


@pytest.mark.parametrize(
    ("text", "tokens", "owners"),
    [
        ("Twenty-five men, didn't", "2 5 men did not", (0, 0, 1, 2, 2)),
        ("the twenty five — men", "the 2 5 men", (0, 1, 2, 4)),
        ("um, colour!", "color", (1,)),
        ("—", "", ()),
        ("", "", ()),
    ],
)
def test_words_keep_their_spelling_beside_the_normaliser_s(text, tokens, owners):
    found = read_words(text, ENGLISH)
    assert " ".join(found.spelled) == text
    assert " ".join(found.tokens) == tokens
    assert len(found.owners) == len(found.tokens)
    if owners:
        assert found.owners[0] == owners[0]
        assert all(0 <= owner < len(found.spelled) for owner in found.owners)


def test_spoken_and_written_numbers_match():
    found = matching(["It cost twenty five dollars, in colour"], ["it cost $25 in color"])
    assert found.match(0).errors == 0
    assert shown(found.items()) == ["It cost twenty five dollars, in colour"]


@pytest.mark.parametrize(
    ("heard", "errors"),
    [("2992 821", 0), ("29, 92 8 2 1", 0), ("292 821", 1), ("two nine nine two 8 21", 0)],
)
def test_digits_match_however_they_are_grouped(heard, errors):
    found = matching(["two nine nine two", "eight two one"], [heard])
    assert (found.match(0).errors, found.match(1).errors) == (errors, 0)
    assert found.missing == []


def test_what_nobody_says_is_missing_and_what_is_said_stands_beside_the_text():
    sentences = ["a b c d", "nobody says one word of this", "e f g h"]
    found = matching(sentences, ["a b c", "d x y z e f g h"], BASIC)
    assert found.missing == [1]
    assert shown(found.items()) == ["a b c", "d (x) (y) (z) e f g h"]
    assert found.match(0).wer == found.match(2).wer == 0


def test_one_or_two_words_that_the_model_believes_to_hear_are_not_aligned():
    found = matching(["a b c d e f"], ["a b c x y d e f"], BASIC)
    assert shown(found.items()) == ["a b c d e f"]
    assert found.match(0).errors == 2
    assert found.match(0).heard == tuple("abcxydef")
    assert found.match(0, 3, 6) == found.match(0, 3)
    assert found.match(0, 3).heard == tuple("def")


def test_a_word_that_equals_an_earlier_one_by_chance_is_where_its_sentence_is():
    said = "the i j k l m n o p q the a b c d"
    for text, heard, expected in (
        ("the a b c d", said, 9),
        ("d c b a the", " ".join(reversed(said.split())), 0),
    ):
        [items] = matching([text], [heard], BASIC).items()
        places = [i for i, item in enumerate(items) if item.place]
        assert [items[i].text for i in places] == text.split()
        assert places[-1] - places[0] == len(places) - 1, heard
        assert (places[0] >= expected) or expected == 0


def test_what_was_heard_stands_for_words_that_are_wrong():
    found = matching(["a b c", "r s", "d e f"], ["a b c x y d e f"], BASIC)
    wrong = {(1, 0), (1, 1)}
    assert shown(found.items()) == ["a b c r s d e f"]
    assert shown(found.items(wrong)) == ["a b c (x) (y) d e f"]


def test_words_for_which_nothing_was_heard_stay_in_their_sentence():
    found = matching(["a b c d e f", "g h i"], ["a b c", "", "f g h i"], BASIC)
    assert shown(found.items()) == ["a b c d e", "", "f g h i"]


SIDES = st.lists(st.lists(st.sampled_from("abcde"), max_size=6).map(" ".join), max_size=5)


@given(SIDES, SIDES)
def test_every_word_that_is_not_missing_is_aligned_once_in_order(sentences, pieces):
    found = matching(sentences, pieces or [""], BASIC)
    places = [item.place for piece in found.items() for item in piece if item.place]
    assert places == [
        (i, j)
        for i, text in enumerate(sentences)
        if i not in found.missing
        for j in range(len(text.split()))
    ]
    heard = [word for text in pieces for word in text.split()]
    beside = iter(heard)
    assert all(item.text in beside for piece in found.items() for item in piece if not item.place)


def test_a_sentence_that_is_gathered_moves_no_other():
    """Of long texts in which words are not heard, and others are heard that no text has."""
    rng = random.Random(0)
    for _ in range(30):
        sentences = [[f"w{rng.randrange(40)}" for _ in range(9)] for _ in range(30)]
        heard = []
        for sentence in sentences:
            for word in sentence:
                heard += [word] if rng.random() > 0.06 else []
                heard += [f"x{i}" for i in range(5)] if rng.random() < 0.03 else []
        found = matching([" ".join(words) for words in sentences], [" ".join(heard)], BASIC)
        for number, (first, last) in found.spans.items():
            own = [step.text for step in found.steps[first : last + 1] if step.text]
            assert own == [(number, word) for word in range(9)]
        left = [step.heard for step in found.steps if step.heard]
        assert left == [(0, word) for word in range(len(heard))]


@pytest.mark.parametrize(("language", "text"), [("zh", "你好 OK 吗。"), ("de", "Das ist so.")])
def test_a_text_keeps_its_spaces(language, text):
    words = read_words(f" {text}\n", normaliser(language, None))
    number = len(words.spelled)
    assert words.text(0, number) == text
    for cut in range(1, number):
        first, last = words.text(0, cut), words.text(cut, number)
        assert text in (f"{first}{last}", f"{first} {last}")


def test_a_language_without_spaces_is_matched_by_letters():
    found = matching(["你好吗", "再见"], ["你好", "吗再见"], normaliser("zh", None))
    assert shown(found.items()) == ["你 好", "吗 再 见"]
