"""Normalises texts, so that different spellings of the same words do not count as errors."""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import regex
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

from echo.checkpoints.load import LoadedModel
from echo.data.utterance import Utterance
from echo.evaluate.statistics import members
from echo.model.language import written_language

NormaliserName = Literal["whisper", "leaderboard"]

# These are written without spaces between words, so errors are counted in letters (Radford et al.
# 2022, C).
UNSPACED_LANGUAGES = ("zh", "ja", "th", "lo", "my", "yue")
UNSPACED_LETTERS = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Myanmar}]")
OTHER_LETTERS = regex.compile(r"(?!\p{Latin})\p{L}")
NOT_SCORED = "ignore time segment in scoring"
LATIN_LETTERS = regex.compile(r"\p{Latin}")


@dataclass(frozen=True)
class Normaliser:
    """Normalises texts, and says whether errors are counted in words or in letters."""

    name: str
    apply: Callable[[str], str]
    by_letters: bool = False  # WER and CER both count letters: there are no spaces between words

    def __call__(self, text: str) -> str:
        return self.units(self.apply(text))

    def of(self, utterance: Utterance) -> "Normaliser":
        """The one of a row: every row has the same."""
        return self

    def units(self, text: str) -> str:
        """Puts spaces between the units that the WER counts."""
        return " ".join(letters(text)) if self.by_letters else text


@dataclass(frozen=True)
class RowNormalisers:
    """A normaliser for each row, by the language that it is in."""

    usual: Normaliser  # of rows that do not say
    others: Mapping[str, Normaliser]  # by the ids of those that do

    @property
    def name(self) -> str:
        names = [self.usual.name, *(each.name for each in self.others.values())]
        return "; ".join(dict.fromkeys(names))

    def of(self, utterance: Utterance) -> Normaliser:
        return self.others.get(utterance.id, self.usual)


def scored(utterances: Sequence[Utterance], name: NormaliserName) -> Sequence[Utterance]:
    """Returns the utterances that count: the leaderboard leaves out those in which it finds no
    word, or a mark that they are not to be scored."""
    if name == "whisper":
        return utterances
    return [u for u in utterances if leaderboard().apply(u.text).strip() not in ("", NOT_SCORED)]


def row_normalisers(
    loaded: LoadedModel, utterances: Sequence[Utterance], name: NormaliserName = "whisper"
) -> Normaliser | RowNormalisers:
    """Returns the normaliser of a set that a model transcribes, or of each row if some rows name
    their language or task."""
    return shared_normalisers(loaded, utterances, written_language(loaded.model), name)


def shared_normalisers(
    loaded: LoadedModel,
    utterances: Sequence[Utterance],
    usual: str | None,
    name: NormaliserName = "whisper",
) -> Normaliser | RowNormalisers:
    """Like `row_normalisers`, for transcripts of several models, of which `loaded` completes what a
    row says and has the spelling rules. The other rows are in the `usual` language.
    Each of several data sets has the normaliser that it has by itself."""
    if name == "leaderboard":
        return leaderboard()
    sets = members([u.set for u in utterances])
    if len(sets) > 1:
        parts = [[utterances[i] for i in indices] for indices in sets.values()]
        own = [shared_normalisers(loaded, part, usual) for part in parts]
        if len({each.name for each in own}) == 1 and isinstance(own[0], Normaliser):
            return own[0]
        rows = zip(parts, own, strict=True)
        others = {u.id: each.of(u) for part, each in rows for u in part}
        return RowNormalisers(next(iter(others.values())), others)
    model, tokenizer = loaded.model, loaded.tokenizer
    told = {u.id: u for u in utterances if u.language is not None or u.task is not None}
    silent = [u.text for u in utterances if u.id not in told]
    written = {id: written_language(model, u.language, u.task) for id, u in told.items()}
    texts = silent or [u.text for u in utterances]
    found = normaliser(usual, tokenizer, texts)
    if not told:
        return found
    by_language = {language: normaliser(language, tokenizer) for language in {*written.values()}}
    others = {id: by_language[language] for id, language in written.items()}
    return RowNormalisers(found if silent else next(iter(others.values())), others)


def normaliser(language: str | None, tokenizer: Any, texts: Iterable[str] = ()) -> Normaliser:
    """Returns the normaliser for a language's code; None guesses by the scripts in `texts`, and
    takes Latin for English. English gets Whisper's English normaliser, with the spelling rules of
    the checkpoint's tokenizer, any other language `normalise_basic`."""
    by_letters = language in UNSPACED_LANGUAGES
    if language is None:
        text = " ".join(texts)
        others = len(OTHER_LETTERS.findall(text))
        if others > len(LATIN_LETTERS.findall(text)):
            by_letters = 2 * len(UNSPACED_LETTERS.findall(text)) > others
        else:
            language = "en"
    if language == "en":
        spellings = getattr(tokenizer, "english_spelling_normalizer", None) or {}
        return Normaliser("Whisper's normaliser of English", EnglishTextNormalizer(spellings))
    name = "Whisper's basic normaliser, with marks kept"
    return Normaliser(f"{name}, by letters" if by_letters else name, normalise_basic, by_letters)


def normalise_basic(text: str) -> str:
    """Whisper's basic normaliser, except that it keeps marks. A mark is a vowel in Hindi and a
    tone in Thai; without marks, different words would count as the same."""
    text = text.lower().replace("i̇", "i")  # Python's lower case of the Turkish dotted capital I
    text = re.sub(r"[<\[][^>\]]*[>\]]", "", text)
    text = re.sub(r"\(([^)]+?)\)", "", text)
    text = regex.sub(r"\p{Variation_Selector}", "", unicodedata.normalize("NFKC", text))
    # A mark on a symbol, such as an emoji, is removed with it.
    text = regex.sub(r"[\p{S}\p{P}\p{Me}]\p{M}*", " ", text).lower()
    return re.sub(r"\s+", " ", text)


@cache
def leaderboard() -> Normaliser:
    """The normaliser of the Open ASR Leaderboard, which is for English: Whisper's, with all of its
    rules of spelling whatever the model's tokenizer has, and abbreviations as words."""
    path = Path(__file__).with_name("vendor") / "english_spellings.json"
    spellings = json.loads(path.read_text(encoding="utf-8"))
    whisper = EnglishTextNormalizer(spellings | {"ok": "okay", "kay": "okay", "etcetera": "etc"})
    fillers, whisper.ignore_patterns = whisper.ignore_patterns, r"(?!)"  # none but the first time
    return Normaliser(
        "the normaliser of the Open ASR Leaderboard",
        lambda text: whisper(abbreviated(text, fillers)),
    )


def abbreviated(text: str, fillers: str) -> str:
    """Writes "U.S.A." as "usa", up to four letters, and leaves out dots of omission. Before this,
    words such as "um" are left out; after it, "um" is an abbreviation."""
    text = re.sub(r"\.{3,}\s*$", "", text.lower())
    text = re.sub(r"\s*\.{3,}\s*", " ", text)
    text = re.sub(r"[<\[][^>\]]*[>\]]", "", text)
    text = re.sub(fillers, "", re.sub(r"\(([^)]+?)\)", "", text))
    text = re.sub(r"\s+'", "'", text)
    text = re.sub(r"\b([a-z])\.([a-z])\.([a-z])\.s\b", r"\1\2\3s", text)
    for gap, last in (("", r"\.?"), (r"\s+", r"\.")):
        for count in (4, 3, 2):
            dotted = rf"\.{gap}".join(["([a-z])"] * count)
            joined = "".join(f"\\{i}" for i in range(1, count + 1))
            text = re.sub(rf"\b{dotted}{last}\b", joined, text)
    return re.sub(r"\b([a-z])\.([a-z])\.([a-z])\.'s\b", r"\1\2\3s", text)


def letters(text: str) -> list[str]:
    """Splits a text into letters, each with its marks, and drops spaces."""
    return [letter for letter in regex.findall(r"\X", text) if not letter.isspace()]
