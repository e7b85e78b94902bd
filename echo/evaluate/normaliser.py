"""Makes texts alike that mean the same, before their errors are counted."""

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import regex
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

# No spaces part the words of these, so errors are counted in letters (Radford et al. 2022, C).
UNSPACED_LANGUAGES = ("zh", "ja", "th", "lo", "my", "yue")
UNSPACED_LETTERS = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Myanmar}]")
OTHER_LETTERS = regex.compile(r"(?!\p{Latin})\p{L}")
LATIN_LETTERS = regex.compile(r"\p{Latin}")


@dataclass(frozen=True)
class Normaliser:
    """Makes texts alike, and says what their errors are counted in."""

    name: str
    apply: Callable[[str], str]
    by_letters: bool = False  # whether both WER and CER count letters, because no spaces part words

    def __call__(self, text: str) -> str:
        return self.units(self.apply(text))

    def units(self, text: str) -> str:
        """The text with spaces between what its WER counts."""
        return " ".join(letters(text)) if self.by_letters else text


def normaliser(language: str | None, tokenizer: Any, texts: Iterable[str] = ()) -> Normaliser:
    """The one for a language: Whisper's of English, with the spellings that a checkpoint's
    tokenizer carries, or `normalise_basic` for any other.

    Args:
        language: its code; None judges by the scripts of `texts`, and takes Latin for English.
    """
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
    """As Whisper's basic normaliser, but marks stay where they are: a mark is a vowel in Hindi and
    a tone in Thai, and without them other words would count as the same."""
    text = text.lower().replace("i̇", "i")  # what Python makes of a Turkish capital
    text = re.sub(r"[<\[][^>\]]*[>\]]", "", text)
    text = re.sub(r"\(([^)]+?)\)", "", text)
    text = regex.sub(r"\p{Variation_Selector}", "", unicodedata.normalize("NFKC", text))
    # A mark on a symbol, as an emoji's, goes with it.
    text = regex.sub(r"[\p{S}\p{P}\p{Me}]\p{M}*", " ", text).lower()
    return re.sub(r"\s+", " ", text)


def letters(text: str) -> list[str]:
    """The letters of a text, each with its marks, without spaces."""
    return [letter for letter in regex.findall(r"\X", text) if not letter.isspace()]
