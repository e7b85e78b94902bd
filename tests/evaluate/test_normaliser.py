"""Texts that mean the same are alike after normalising, and no others."""

import pytest
from transformers.models.whisper.english_normalizer import (
    BasicTextNormalizer,
    EnglishTextNormalizer,
)

from echo.data.audio import AudioFile
from echo.data.utterance import Utterance
from echo.evaluate.decoding import Transcripts
from echo.evaluate.evaluation import score
from echo.evaluate.normaliser import (
    leaderboard,
    normalise_basic,
    normaliser,
    scored,
    shared_normalisers,
)

# Pairs that differ in a vowel, a tone or a doubling, which a mark writes.
MARKED = {
    "hi": ("रहा", "रही"),
    "ta": ("கல்", "காலி"),
    "ml": ("മല", "മാല"),
    "bn": ("বল", "বলি"),
    "ar": ("كَتَبَ", "كُتِبَ"),
    "th": ("มา", "ม้า"),
}
# Without a mark that is not composed, so that Whisper's normaliser hides nothing in them.
PLAIN = (
    "Zwölf, (äh) Bären!",
    "L'été  [bruit] à Orléans… 3,5 %",
    "<unk> Ça va?\nOui—non",
    "Привет, МИР! ёж й",
    "価格は¥１００です。",
    "❤️ 1️⃣ ½ ﬁn",
)


def evaluation(said, heard, normalise):
    utterances = [Utterance(str(i), AudioFile("x"), text, 1.0) for i, text in enumerate(said)]
    return score(Transcripts(utterances, heard, 1.0), normalise)


@pytest.mark.parametrize(("language", "pair"), MARKED.items(), ids=MARKED.keys())
@pytest.mark.parametrize("told", [True, False])
def test_words_that_differ_in_a_mark_stay_different(language, pair, told):
    normalise = normaliser(language if told else None, None, pair)
    assert normalise.name.startswith("Whisper's basic normaliser, with marks kept")
    one, other = pair
    found = evaluation([one, one], [one, other], normalise)
    assert found.words_normalised[0].errors == 0
    assert found.words_normalised[1].errors > 0
    assert found.wer_normalised.reference == (4 if language == "th" else 2)
    assert found.cer_normalised.errors > 0


@pytest.mark.parametrize("text", PLAIN)
def test_texts_without_such_marks_come_out_as_whispers(text):
    assert normalise_basic(text).split() == BasicTextNormalizer()(text).split()


def test_capitals_and_the_marks_of_symbols_do_not_count():
    assert normalise_basic("İstanbul") == normalise_basic("istanbul") == "istanbul"
    assert normalise_basic("राम ❤️ सीता") == "राम सीता"


def test_english_is_whispers_to_the_letter():
    texts = ["Mr. Brown's café, colour & 20 naïve—", "It's £3.50!"]
    spellings = {"colour": "color"}

    class Tokenizer:
        english_spelling_normalizer = spellings

    whispers = EnglishTextNormalizer(spellings)
    for normalise in (normaliser("en", Tokenizer), normaliser(None, Tokenizer, texts)):
        assert normalise.name == "Whisper's normaliser of English"
        assert [normalise(t) for t in texts] == [whispers(t) for t in texts]
    assert normaliser(None, None, ["1 2 3", ""]).name == "Whisper's normaliser of English"


@pytest.mark.parametrize(
    ("language", "said", "heard", "letters"),
    [
        ("zh", "你好，世界", "你好世 间", 4),
        ("ja", "がっこう です。", "がっこうでず", 6),
        ("th", "ที่นี่ดี", "ทีนี่ดี", 3),  # a letter with its marks is one
    ],
)
@pytest.mark.parametrize("told", [True, False])
def test_without_spaces_between_words_all_rates_are_of_letters(
    language, said, heard, letters, told
):
    normalise = normaliser(language if told else None, None, [said])
    assert normalise.name.endswith("by letters")
    found = evaluation([said], [heard], normalise)
    assert (found.wer_normalised.errors, found.wer_normalised.reference) == (1, letters)
    assert found.cer_normalised == found.wer_normalised
    assert found.cer == found.wer
    assert found.wer.reference >= letters


# As the leaderboard's own code, `normalizer/normalizer.py`, has them.
LEADERBOARD = {
    "The U.S.A. and the U.K.": "the usa and the uk",
    "from the U. S. to D.C.": "from the u s to dc",
    "the A.B.C.s of M.P.s": "the abcs of mps",
    "Well... ok, kay... it's uh fine...": "well okay okay it is fine",
    "um, U.M. won't [noise] colour (so) the axe": "um will not color the ax",
    "twenty-two dollars, etcetera": "$22 etc",
}


@pytest.mark.parametrize(("text", "expected"), LEADERBOARD.items())
def test_the_leaderboards_normaliser(text, expected):
    assert leaderboard()(text).split() == expected.split()


def test_the_leaderboard_leaves_out_what_has_no_words():
    texts = ["one", "[noise]", "uh", "ignore time segment in scoring", "..."]
    utterances = [Utterance(str(i), AudioFile("x"), text, 1.0) for i, text in enumerate(texts)]
    assert [u.text for u in scored(utterances, "leaderboard")] == ["one"]
    assert scored(utterances, "whisper") == utterances


def test_each_of_several_sets_has_the_normaliser_of_its_own_script():
    class Loaded:
        class model:  # noqa: N801
            generation_config = None

        tokenizer = None

    rows = [("en", "one two"), ("zh", "一二三四五六七八"), ("zh", "九")]
    utterances = [
        Utterance(str(i), AudioFile("x"), text, 1.0, set=name)
        for i, (name, text) in enumerate(rows)
    ]
    found = shared_normalisers(Loaded, utterances, None)
    assert [found.of(u).by_letters for u in utterances] == [False, True, True]
    for name in ("en", "zh"):
        part = [u for u in utterances if u.set == name]
        assert found.of(part[0]).name == shared_normalisers(Loaded, part, None).name
