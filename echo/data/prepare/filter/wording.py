"""What can be measured of a text without its recording."""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import regex

from echo.data.prepare.filter.stock_phrases import CLOSINGS, CREDITS

# Words, and letters of scripts that put no spaces between words. Han and kana are Japanese too.
UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー]"
SPACED = rf"[[\p{{L}}\p{{N}}\p{{M}}]--{UNSPACED}]"
UNIT = regex.compile(rf"(?V1){UNSPACED}\p{{M}}*|{SPACED}+(?:'{SPACED}+)*")
SPOKEN = regex.compile(r"[\p{L}\p{N}]")
LETTER = regex.compile(r"(?V1)[\p{L}--[\p{Common}\p{Inherited}]]")
# What no transcript holds: control and private characters, those that do not exist, and U+FFFD,
# which stands for what could not be decoded.
DAMAGED = regex.compile(r"(?V1)[[\p{Cc}\p{Co}\p{Cn}\uFFFD]--\s]+")
MARKUP = re.compile(r"&(?:#\d+|#x[0-9a-fA-F]+|amp|lt|gt|quot|apos|nbsp);|</?[A-Za-z][^<>]*>")
NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
# Letters that look alike, so that a word of both is a mistake that nobody sees.
ALIKE = regex.compile(
    r"(?=\p{L}*\p{Latin})(?=\p{L}*[\p{Cyrillic}\p{Greek}])[\p{L}\p{M}]+(?<=\p{L})"
)
SCRIPTS = {"IDEOGRAPHIC": "CJK"}  # of letters whose name begins otherwise
# Codes by which py3langid and Whisper name one language.
SAME = {"nb": "no", "nn": "no", "jw": "jv", "yue": "zh", "fil": "tl", "iw": "he"}


@dataclass(frozen=True, slots=True)
class Wording:
    characters: int  # letters and digits
    words: int
    scripts: dict[str, int]  # how many letters of each there are
    damage: str | None  # what no transcript holds
    repeated: int  # words that only repeat those just before them
    stock: str | None  # the stock phrase that it holds
    language: str | None  # the likeliest; None without letters
    confidence: float  # in that, from 0 to 1


def measure_text(text: str) -> Wording:
    words = units(text)
    plain = " ".join(words)
    scripts = Counter(map(script, LETTER.findall(unicodedata.normalize("NFKC", text))))
    language, confidence = identifier().classify(text) if scripts else (None, 0.0)
    return Wording(
        characters=len(SPOKEN.findall(text)),
        words=len(words),
        scripts=dict(scripts),
        damage=damage(text),
        repeated=repeated(words),
        stock=stock_phrase(plain),
        language=language and same_language(language),
        confidence=round(float(confidence), 4),
    )


def units(text: str) -> list[str]:
    """Returns the words of a text in lower case, without punctuation; of scripts without spaces
    between words its letters."""
    return UNIT.findall(unicodedata.normalize("NFKC", text).replace("’", "'").lower())


@lru_cache(maxsize=100_000)
def script(letter: str) -> str:
    """Returns a letter's script by its name in Unicode: "LATIN", "CJK", "HIRAGANA"."""
    name = unicodedata.name(letter, "UNKNOWN").split(" ")[0]
    return SCRIPTS.get(name, name)


def damage(text: str) -> str | None:
    """Returns the first part of a text that is damage: characters that no transcript holds, markup,
    UTF-8 that was read as another encoding, or a word of letters that only look alike."""
    for pattern in (DAMAGED, MARKUP):
        if found := pattern.search(text):
            return str(found[0])
    for run in NOT_ASCII.findall(text):
        try:
            run.encode("cp1252").decode()
        except UnicodeError:
            continue
        return str(run)
    word = ALIKE.search(text)
    return str(word[0]) if word else None


def repeated(words: list[str]) -> int:
    """Returns the length of the longest run of words that repeats the words just before it, once or
    more: 3 in "no no no no" and in "it was he it was he"."""
    most = 0
    for length in range(1, len(words) // 2 + 1):
        run = 0
        for before, word in zip(words, words[length:], strict=False):
            run = run + 1 if before == word else 0
            if run >= length:
                most = max(most, run)
    return most


def stock_phrase(plain: str) -> str | None:
    text = f" {plain} "
    found = [phrase for phrase, spaced in spaced_phrases(CREDITS) if spaced in text]
    found += [phrase for phrase, spaced in spaced_phrases(CLOSINGS) if text.endswith(spaced)]
    return found[0] if found else None


@cache
def spaced_phrases(phrases: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(phrase, f" {' '.join(units(phrase))} ") for phrase in phrases]


@cache
def identifier() -> Any:
    """Returns the identifier of languages, loaded once in a process."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def same_language(code: str) -> str:
    """Returns the one code by which a language goes here."""
    return SAME.get(code, code)
